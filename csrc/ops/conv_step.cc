#include "ops/conv_step.h"

#include <algorithm>

#include "base/checked.h"
#include "base/text.h"
#include "conv/packed_conv.h"
#include "ops/step_util.h"
#include "ops/weighted.h"
#include "pack/merge_groups.h"
#include "plan/algorithm.h"

namespace pqi::ops {
namespace {

const float* DataOrNull(Span<const float> s) { return s.empty() ? nullptr : s.data(); }

kernels::Residual ResidualOf(const NodeView& view) {
  kernels::Residual r;
  if (!HasResidual(view)) return r;
  const kernels::Affine affine = AffineOf(view.graph, view.input(1));
  r.zero_point = affine.zero_point;
  r.scale = affine.scale;
  return r;
}

// The image that the planner counts on: what the file says, one for an open batch, a large square for an open height or width, and one
// row for a linear layer.
kernels::ConvShape TypicalShape(const NodeView& view, const ConvGeometry& geometry) {
  constexpr int64_t kOpenBatch = 1, kOpenSize = 56;
  ConcreteShape shape;
  const Shape& declared = view.input(0).shape;
  for (size_t i = 0; i < declared.size(); ++i) {
    shape.push_back(declared[i].fixed() ? declared[i].value : (geometry.linear || i == 0 ? kOpenBatch : kOpenSize));
  }
  return geometry.Bind(shape);
}

// Packed is the layer for one element type of the input.
template <typename Packed>
class ConvStep : public Step {
 public:
  using Element = typename Packed::Element;

  ConvStep(const NodeView& view, const ConvGeometry& geometry, const Bounds& activation, Packed packed)
      : geometry_(geometry),
        packed_(std::move(packed)),
        residual_(ResidualOf(view)),
        output_(OutputOf(view, activation)),
        has_residual_(HasResidual(view)),
        residual_is_u8_(has_residual_ && view.input(1).dtype == DType::kU8) {
    info_.weight_bytes = packed_.WeightBytes();
  }

  void Describe(Isa isa, conv::Arithmetic arithmetic, const std::string& why) {
    conv::Executed executed = conv::Describe(packed_.layout(), packed_.words(), isa, arithmetic, why);
    info_.executed_as = std::move(executed.as);
    info_.reason = std::move(executed.reason);
  }

  size_t ScratchBytes(const ConcreteShape& in, const ConcreteShape&) const override { return packed_.ScratchBytes(geometry_.Bind(in)); }

  bool SpacesRows() const override { return true; }

  void Run(const RunArgs& args) const noexcept override {
    conv::ConvRun<Element> run;
    run.shape = geometry_.Bind(*args.in[0].shape);
    run.x = static_cast<const Element*>(args.in[0].data);
    run.residual = residual_;
    if (has_residual_) {
      if (residual_is_u8_) {
        run.residual.u8 = args.in[1].u8();
      } else {
        run.residual.f32 = args.in[1].f32();
      }
    }
    run.output = output_;
    run.y = args.out.data;
    run.y_stride = static_cast<size_t>(args.out_stride);
    const int64_t worthwhile = std::max<int64_t>(ConvMacs(run.shape) / kMacGrain, 1);
    const int parts = static_cast<int>(std::min<int64_t>(worthwhile, args.pool ? args.pool->threads() : 1));
    const conv::Work work = packed_.OutputWork(run.shape);
    ParallelFor(args.pool, parts, 1, [&](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) {
        const conv::ConvPart piece = conv::Split(work, parts, static_cast<int>(part));
        packed_.Run(run, piece, args.Scratch(part));
      }
    });
  }

 private:
  ConvGeometry geometry_;
  Packed packed_;
  kernels::Residual residual_;
  kernels::Output output_;
  bool has_residual_, residual_is_u8_;
};

template <typename Packed>
std::unique_ptr<Step> Finish(const PrepareContext& context, const ConvGeometry& geometry, const Bounds& activation, Packed packed,
                             conv::Arithmetic arithmetic, const std::string& why = "") {
  auto step = std::make_unique<ConvStep<Packed>>(context.view, geometry, activation, std::move(packed));
  step->Describe(context.kernels.isa, arithmetic, why);
  return step;
}

// Puts step*code + base[c] in the place of every code if all of these fit a code of eight bits, and tells whether. The sums are the same
// integers, and without a base no kernel has to add up its windows. There are codes.size() / base.size() codes to a channel.
bool FoldBase(int32_t step, Span<const int32_t> base, std::vector<int8_t>* codes) {
  if (base.empty()) return false;
  const size_t per_channel = codes->size() / base.size();
  std::vector<int8_t> folded(codes->size());
  for (size_t i = 0; i < folded.size(); ++i) {
    const int64_t v = int64_t{step} * (*codes)[i] + base[i / per_channel];
    if (v < -127 || v > 127) return false;
    folded[i] = static_cast<int8_t>(v);
  }
  *codes = std::move(folded);
  return true;
}

}  // namespace

kernels::ConvShape ConvGeometry::Bind(const ConcreteShape& in) const {
  kernels::ConvShape bound = shape;
  if (linear) {
    bound.n = 1;
    for (size_t i = 0; i + 1 < in.size(); ++i) bound.n *= in[i];
  } else {
    bound.n = in[0];
    bound.h = in[1];
    bound.w = in[2];
  }
  return bound;
}

Result<std::unique_ptr<Step>> MakeConvStep(const PrepareContext& context, const ConvGeometry& geometry, const Bounds& activation) {
  const NodeView& view = context.view;
  const float* bias = DataOrNull(Elements<float>(view, "bias"));
  if (IsInteger(view)) {
    PQI_ASSIGN_OR_RETURN(std::vector<int8_t> codes, Codes(view));
    const std::vector<float> scale = ScaleProducts(view);
    Span<const int32_t> base = Elements<int32_t>(view, "base");
    pack::WeightsU8 weights;
    weights.step = static_cast<int32_t>(std::get<uint64_t>(view.node.attrs.at("step")));
    if (FoldBase(weights.step, base, &codes)) {
      weights.step = 1;
      base = {};
    }
    weights.codes = codes.data();
    weights.scale = scale.data();
    weights.bias = bias;
    weights.base = base.empty() ? nullptr : base.data();
    const Quant& quant = QuantOf(view.graph, view.input(0));
    weights.zero_point = quant.zero_point;
    weights.qmin = quant.qmin;
    weights.qmax = quant.qmax;
    ConvGeometry merged = geometry;
    if (const int64_t groups = plan::GroupsToMerge(context.kernels, TypicalShape(view, geometry), weights); groups > 1) {
      codes = pack::MergedCodes(geometry.shape, codes, groups);
      weights.codes = codes.data();
      merged.shape = pack::MergedShape(geometry.shape, groups);
    }
    const kernels::ConvShape typical = TypicalShape(view, merged);
    Result<plan::CodePlan> plan = plan::PlanCodes(context.kernels, typical, weights, context.plan);
    if (!plan.ok()) return Status(plan.status().code(), "layer " + Quoted(view.node.name) + ": " + plan.status().message());
    conv::PackedConvU8 packed(context.kernels, typical, weights, plan.value().algorithm);
    std::string why = plan.value().reason;
    if (merged.shape.groups != geometry.shape.groups) {
      why += (why.empty() ? "" : "; ") + std::to_string(geometry.shape.groups) + " groups run as " + std::to_string(merged.shape.groups);
    }
    return Finish(context, merged, activation, std::move(packed), conv::Arithmetic::kInteger, why);
  }
  PQI_ASSIGN_OR_RETURN(const std::vector<float> expanded, FloatWeights(view));
  const bool coded = view.constant("weight")->type == ConstType::kCode;
  return Finish(context, geometry, activation, conv::PackedConvF32(context.kernels, geometry.shape, {expanded.data(), bias}),
                coded ? conv::Arithmetic::kExpandedCodes : conv::Arithmetic::kFloat);
}

int64_t ConvMacs(const kernels::ConvShape& shape) {
  // Values hold at most 2^40 bytes and weights as many, so the product may pass int64; a report is then saturated.
  int64_t macs = shape.rows();
  const int64_t factors[] = {shape.oc, shape.taps(), shape.group_inputs()};
  for (int64_t f : factors) {
    if (__builtin_mul_overflow(macs, f, &macs)) return INT64_MAX;
  }
  return macs;
}

}  // namespace pqi::ops
