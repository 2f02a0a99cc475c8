// matmul: products of the matrices in the last two axes, both computed by the graph; codes by codes, or float by float.
#include "linear/matmul.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "ops/families.h"
#include "ops/schema.h"
#include "ops/step_util.h"

namespace pqi::ops {
namespace {

using kernels::MatrixShape;

bool IsInteger(const NodeView& view) { return view.input(0).dtype == DType::kU8; }

bool ReadTransposed(const NodeView& view) {
  AttrReader attrs(view);
  return attrs.Flag("transpose_b");
}

Status Check(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckArity(view, 2, 2));
  PQI_RETURN_IF_ERROR(CheckConstantKeys(view, {}));
  PQI_RETURN_IF_ERROR(CheckDType(view, view.input(1), "the second input", view.input(0).dtype));
  if (!IsInteger(view)) PQI_RETURN_IF_ERROR(CheckDType(view, view.output(0), "the output of a float product", DType::kF32));
  AttrReader attrs(view);
  attrs.Flag("transpose_b");
  return attrs.Finish();
}

// The largest |q - z| that codes of a tensor can have.
int64_t Reach(const Quant& q) { return std::max(q.zero_point - q.qmin, q.qmax - q.zero_point); }

// Proves |acc| <= 2^31 - 1 whatever the codes are. Where the length is not known yet, the shapes of each run are held to the same bound.
Status CheckAccumulator(const NodeView& view, const Dim& length) {
  if (!IsInteger(view) || !length.fixed()) return {};
  const int64_t product = Reach(QuantOf(view.graph, view.input(0))) * Reach(QuantOf(view.graph, view.input(1)));
  if (product == 0 || length.value <= INT32_MAX / product) return {};
  return NodeError(view, "a sum of " + std::to_string(length.value) + " products could reach more than 2147483647 (each may be " +
                             std::to_string(product) + ")");
}

Status Infer(const NodeView& view, const std::vector<Shape>& inputs, std::vector<Shape>* outputs) {
  const Shape &a = inputs[0], &b = inputs[1];
  const std::string shapes = ShapeText(view.graph, a) + " and " + ShapeText(view.graph, b);
  if (a.size() < 2 || a.size() != b.size()) return NodeError(view, "the inputs must have one rank of at least 2, got " + shapes);
  const size_t rank = a.size();
  const bool transposed = ReadTransposed(view);
  const Dim &k_a = a[rank - 1], &k_b = b[transposed ? rank - 1 : rank - 2];
  bool fits = !(k_a.fixed() && k_b.fixed()) || k_a == k_b;
  Shape out(rank);
  for (size_t i = 0; i + 2 < rank; ++i) fits = fits && BroadcastDim(a[i], b[i], &out[i]);
  if (!fits) return NodeError(view, "shapes " + shapes + (transposed ? ", the second transposed," : "") + " cannot be multiplied");
  out[rank - 2] = a[rank - 2];
  out[rank - 1] = b[transposed ? rank - 2 : rank - 1];
  PQI_RETURN_IF_ERROR(CheckAccumulator(view, k_a.fixed() ? k_a : k_b));
  outputs->assign(1, out);
  return {};
}

float ScaleProduct(const NodeView& view) { return QuantOf(view.graph, view.input(0)).scale * QuantOf(view.graph, view.input(1)).scale; }

Status Prove(const NodeView& view) {
  if (!IsInteger(view) || std::isnormal(ScaleProduct(view))) return {};
  return NodeError(view, "the product of the inputs' scales is not a normal float32");
}

// With fewer rows than these a second thread would spend more time on packing the panel again than on its products.
constexpr int64_t kLeastRows = 64;

class MatmulStep : public Step {
 public:
  MatmulStep(const NodeView& view, const kernels::KernelSet& set)
      : set_(set), transposed_(ReadTransposed(view)), integer_(IsInteger(view)) {
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    output_ = OutputOf(view, {-kInfinity, kInfinity});
    if (integer_) {
      zero_a_ = QuantOf(view.graph, view.input(0)).zero_point;
      zero_b_ = QuantOf(view.graph, view.input(1)).zero_point;
      scale_ = ScaleProduct(view);
    }
    info_ = {set.isa == Isa::kReference ? "reference" : std::string(integer_ ? "u8s8-" : "f32-") + IsaName(set.isa),
             "the right operand is packed at run time", 0};
  }

  size_t ScratchBytes(const ConcreteShape& in, const ConcreteShape& out) const override {
    return linear::MatmulScratchBytes(set_, integer_, ShapeOf(in, out));
  }

  void Run(const RunArgs& args) const noexcept override {
    const ConcreteShape& out = *args.out.shape;
    const Work work = Divide(ShapeOf(*args.in[0].shape, out), args.out.count(), args.pool ? args.pool->threads() : 1);
    ParallelFor(args.pool, work.parts, 1, [&](int64_t first, int64_t last) {
      for (int64_t part = first; part < last; ++part) {
        const int64_t end = work.units * (part + 1) / work.parts;
        for (int64_t unit = work.units * part / work.parts; unit < end; ++unit) {
          RunUnit(args, work, unit, args.Scratch(part));
        }
      }
    });
  }

 private:
  // A unit is a piece of the rows by one panel of columns of one product.
  struct Work {
    MatrixShape shape;
    int64_t panels = 1, blocks = 1, units = 1;
    int64_t parts = 1;
  };

  MatrixShape ShapeOf(const ConcreteShape& a, const ConcreteShape& out) const {
    return {out[out.size() - 2], out[out.size() - 1], a.back(), transposed_};
  }

  Work Divide(const MatrixShape& shape, int64_t outputs, int threads) const {
    Work w;
    w.shape = shape;
    w.panels = linear::MatmulPanels(set_, integer_, shape.n);
    const int64_t products = outputs / (shape.m * shape.n);
    w.blocks = std::clamp<int64_t>(threads / (products * w.panels), 1, shape.m / kLeastRows + 1);
    w.units = products * w.blocks * w.panels;
    const double macs = static_cast<double>(outputs) * static_cast<double>(shape.k);
    const int64_t worthwhile = macs < static_cast<double>(kMacGrain) * threads ? static_cast<int64_t>(macs) / kMacGrain : threads;
    w.parts = std::clamp<int64_t>(worthwhile, 1, w.units);
    return w;
  }

  void RunUnit(const RunArgs& args, const Work& work, int64_t unit, void* scratch) const {
    const int64_t panel = unit % work.panels, block = unit / work.panels % work.blocks, product = unit / work.panels / work.blocks;
    const MatrixShape& s = work.shape;
    const int64_t begin = s.m * block / work.blocks, end = s.m * (block + 1) / work.blocks;
    const int64_t a = ProductIndex(*args.in[0].shape, *args.out.shape, product) * s.m * s.k;
    const int64_t b = ProductIndex(*args.in[1].shape, *args.out.shape, product) * s.k * s.n;
    void* y = OutputAt(args.out.data, output_, product * s.m * s.n);
    if (integer_) {
      const linear::MatmulU8 run{s, args.in[0].u8() + a, args.in[1].u8() + b, zero_a_, zero_b_, scale_, output_, y};
      linear::RunMatmul(set_, run, panel, begin, end, scratch);
    } else {
      const linear::MatmulF32 run{s, args.in[0].f32() + a, args.in[1].f32() + b, static_cast<float*>(y)};
      linear::RunMatmul(set_, run, panel, begin, end, scratch);
    }
  }

  // The operand's matrix that goes into product `index` of the output. Dimensions of 1 are used again for every index.
  static int64_t ProductIndex(const ConcreteShape& operand, const ConcreteShape& out, int64_t index) {
    int64_t at = 0, step = 1;
    for (size_t i = out.size() - 2; i-- > 0;) {
      if (operand[i] != 1) at += index % out[i] * step;
      step *= operand[i];
      index /= out[i];
    }
    return at;
  }

  const kernels::KernelSet& set_;
  bool transposed_, integer_;
  kernels::Output output_;
  int32_t zero_a_ = 0, zero_b_ = 0;
  float scale_ = 1;
};

Result<std::unique_ptr<Step>> Prepare(const PrepareContext& context) {
  return std::unique_ptr<Step>(std::make_unique<MatmulStep>(context.view, context.kernels));
}

int64_t Macs(const NodeView&, const ConcreteShape& in, const ConcreteShape& out) {
  int64_t macs = in.back();
  for (int64_t d : out) {
    if (__builtin_mul_overflow(macs, d, &macs)) return INT64_MAX;
  }
  return macs;
}

}  // namespace

const Op kMatmul = {{"matmul", Check, Infer, Prove}, Prepare, Macs};

}  // namespace pqi::ops
