// binary: arithmetic of two operands of one rank that broadcast, codes or float in any mix; the second may be a constant.
#include <algorithm>
#include <array>

#include "ops/families.h"
#include "ops/schema.h"
#include "ops/step_util.h"

namespace pqi::ops {
namespace {

using kernels::BinaryFunction;
using kernels::BinaryOperand;

bool HasConstant(const NodeView& view) { return view.node.inputs.size() == 1; }

BinaryFunction ReadFunction(AttrReader* attrs) {
  // The names are in the order of the enumerators.
  return static_cast<BinaryFunction>(attrs->Choice("function", {"add", "sub", "mul", "div", "rsub", "rdiv", "maximum", "minimum"}));
}

Status Check(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckArity(view, 1, 2));
  if (HasConstant(view)) {
    PQI_RETURN_IF_ERROR(CheckConstantKeys(view, {"other"}));
    PQI_RETURN_IF_ERROR(CheckConstant(view, "other", ConstType::kF32, {}));
  } else {
    PQI_RETURN_IF_ERROR(CheckConstantKeys(view, {}));
  }
  AttrReader attrs(view);
  ReadFunction(&attrs);
  return attrs.Finish();
}

Status Infer(const NodeView& view, const std::vector<Shape>& inputs, std::vector<Shape>* outputs) {
  Shape other;
  if (HasConstant(view)) {
    for (int64_t d : view.constant("other")->shape) other.push_back(Dim::Fixed(d));
  } else {
    other = inputs[1];
  }
  Shape out(inputs[0].size());
  bool fits = inputs[0].size() == other.size();
  for (size_t i = 0; fits && i < out.size(); ++i) fits = BroadcastDim(inputs[0][i], other[i], &out[i]);
  if (!fits) {
    return NodeError(view, "shapes " + ShapeText(view.graph, inputs[0]) + " and " + ShapeText(view.graph, other) + " do not broadcast");
  }
  outputs->assign(1, out);
  return {};
}

// The axes of a result, innermost first. Neighbours that both operands walk as one are one axis, and axes of length 1 are none.
struct Axes {
  struct Axis {
    int64_t length = 1;
    int64_t step[2] = {0, 0};  // distance of neighbours in each operand, 0 where it repeats an element
  };
  std::array<Axis, kMaxRank> axis{};
  size_t count = 1;  // at least 1: a result of one element has one axis of length 1

  Axes(const ConcreteShape& out, const int64_t* const (&dims)[2]) {
    int64_t size[2] = {1, 1};
    bool first = true;
    for (size_t d = out.size(); d-- > 0;) {
      if (out[d] == 1) continue;
      Axis next;
      next.length = out[d];
      for (size_t i = 0; i < 2; ++i) {
        next.step[i] = dims[i][d] == 1 ? 0 : size[i];
        size[i] *= dims[i][d];
      }
      Axis& last = axis[count - 1];
      if (first) {
        last = next;
      } else if (next.step[0] == last.step[0] * last.length && next.step[1] == last.step[1] * last.length) {
        last.length *= next.length;
      } else {
        axis[count++] = next;
      }
      first = false;
    }
  }
  // Gives the element at which operand i's row begins. Rows are numbered over all axes but the innermost.
  int64_t Offset(size_t i, int64_t row) const {
    int64_t offset = 0;
    for (size_t d = 1; d < count; ++d) {
      offset += row % axis[d].length * axis[d].step[i];
      row /= axis[d].length;
    }
    return offset;
  }
};

class BinaryStep : public Step {
 public:
  BinaryStep(const NodeView& view, const kernels::KernelSet& set) : set_(set) {
    AttrReader attrs(view);
    function_ = ReadFunction(&attrs);
    output_ = OutputOf(view);
    for (size_t i = 0; i < view.node.inputs.size(); ++i) {
      is_u8_[i] = view.input(i).dtype == DType::kU8;
      affine_[i] = AffineOf(view.graph, view.input(i));
    }
    has_constant_ = HasConstant(view);
    if (has_constant_) {
      constant_ = Elements<float>(view, "other");
      const std::vector<int64_t>& shape = view.constant("other")->shape;
      for (size_t d = 0; d < shape.size(); ++d) constant_shape_[d] = shape[d];
    }
    info_ = {ElementwiseName(set), "", 0};
  }

  void Run(const RunArgs& args) const noexcept override {
    if (args.out.count() == 0) return;
    const Axes axes(*args.out.shape, {args.in[0].shape->data(), has_constant_ ? constant_shape_.data() : args.in[1].shape->data()});
    const int64_t n = axes.axis[0].length;
    if (axes.count == 1) {
      ParallelFor(args.pool, n, kGrain, [&](int64_t begin, int64_t end) {
        Compute(args, axes, begin * axes.axis[0].step[0], begin * axes.axis[0].step[1], 1, end - begin, begin);
      });
      return;
    }
    const int64_t rows = axes.axis[1].length;
    ParallelFor(args.pool, args.out.count() / n, kGrain / n + 1, [&](int64_t begin, int64_t end) {
      while (begin < end) {  // a call takes rows along the second axis, which are evenly spaced
        const int64_t count = std::min(end - begin, rows - begin % rows);
        Compute(args, axes, axes.Offset(0, begin), axes.Offset(1, begin), count, n, begin * n);
        begin += count;
      }
    });
  }

 private:
  void Compute(const RunArgs& args, const Axes& axes, int64_t a, int64_t b, int64_t rows, int64_t n, int64_t out) const {
    set_.binary(function_, OperandAt(args, 0, a, axes), OperandAt(args, 1, b, axes), static_cast<size_t>(rows), static_cast<size_t>(n),
                output_, OutputAt(args.out.data, output_, out));
  }

  BinaryOperand OperandAt(const RunArgs& args, size_t i, int64_t offset, const Axes& axes) const {
    BinaryOperand operand;
    operand.step = static_cast<size_t>(axes.axis[0].step[i]);
    operand.row_step = static_cast<size_t>(axes.axis[1].step[i]);
    operand.affine = affine_[i];
    if (i == 1 && has_constant_) {
      operand.f32 = constant_.data() + offset;
    } else if (is_u8_[i]) {
      operand.u8 = args.in[i].u8() + offset;
    } else {
      operand.f32 = args.in[i].f32() + offset;
    }
    return operand;
  }

  const kernels::KernelSet& set_;
  BinaryFunction function_;
  kernels::Output output_;
  bool has_constant_ = false;
  bool is_u8_[2] = {};
  kernels::Affine affine_[2];
  Span<const float> constant_;  // elements of the model's file
  std::array<int64_t, kMaxRank> constant_shape_{};
};

}  // namespace

const Op kBinary = {{"binary", Check, Infer, nullptr}, PrepareStep<BinaryStep>, nullptr};

}  // namespace pqi::ops
