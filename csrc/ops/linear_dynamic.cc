// linear_dynamic: linear over float rows that are quantized at run time, each with its own parameters.
#include "kernels/reference/linear_dynamic.h"

#include <algorithm>
#include <cmath>

#include "linear/dynamic.h"
#include "ops/conv_step.h"
#include "ops/families.h"
#include "ops/schema.h"
#include "ops/step_util.h"
#include "ops/weighted.h"

namespace pqi::ops {
namespace {

struct Attributes {
  kernels::RowQuantizer quantizer;
  bool per_tensor = false;
  int32_t step = 1;
  Bounds activation;
};

Attributes ReadAttributes(AttrReader* attrs) {
  Attributes a;
  a.quantizer.symmetric = attrs->Choice("mapping", {"symmetric", "asymmetric"}) == 0;
  a.per_tensor = attrs->Choice("granularity", {"row", "tensor"}) == 1;
  a.quantizer.qmin = static_cast<int32_t>(attrs->Uint("qmin", 0, 255));
  a.quantizer.qmax = static_cast<int32_t>(attrs->Uint("qmax", 0, 255));
  a.quantizer.eps = attrs->FloatBits("eps");
  a.step = static_cast<int32_t>(attrs->Uint("step", 1, 2));
  a.activation = ReadActivation(attrs);
  if (a.quantizer.qmin >= a.quantizer.qmax) attrs->Fail("'qmin' must be below 'qmax'");
  if (!std::isnormal(a.quantizer.eps) || a.quantizer.eps < 0) attrs->Fail("'eps' must be a positive normal float32");
  return a;
}

Attributes Read(const NodeView& view) {
  AttrReader attrs(view);
  return ReadAttributes(&attrs);
}

int64_t GroupsOf(const NodeView& view) {
  const std::vector<int64_t>& scale = view.constant("scale")->shape;
  return scale.size() == 2 ? scale[1] : 1;
}

Status Check(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckArity(view, 1, 1));
  PQI_RETURN_IF_ERROR(CheckDType(view, view.input(0), "input", DType::kF32));
  PQI_RETURN_IF_ERROR(CheckConstantKeys(view, {"weight", "scale"}, {"bias", "base"}));
  AttrReader attrs(view);
  ReadAttributes(&attrs);
  PQI_RETURN_IF_ERROR(attrs.Finish());
  const Constant& weight = *view.constant("weight");
  PQI_RETURN_IF_ERROR(CheckConstant(view, "weight", ConstType::kCode, {}));
  if (weight.shape.size() != 2 || weight.shape[0] < 1 || weight.shape[1] < 1) {
    return NodeError(view, "constant 'weight' must have 2 dimensions, each at least 1");
  }
  PQI_RETURN_IF_ERROR(CheckGroupScales(view));
  if (view.has_constant("bias")) PQI_RETURN_IF_ERROR(CheckConstant(view, "bias", ConstType::kF32, {weight.shape[0]}));
  return {};
}

Status Infer(const NodeView& view, const std::vector<Shape>& inputs, std::vector<Shape>* outputs) {
  const std::vector<int64_t>& weight = view.constant("weight")->shape;
  Shape out = inputs[0];
  if (out.empty()) return NodeError(view, "the input must have at least 1 dimension");
  PQI_RETURN_IF_ERROR(CheckDim(view, inputs, 0, out.size() - 1, weight[1]));
  out.back() = Dim::Fixed(weight[0]);
  outputs->assign(1, out);
  return {};
}

Status Prove(const NodeView& view) {
  const Attributes a = Read(view);
  const int64_t width = a.quantizer.qmax - a.quantizer.qmin;
  // A symmetric zero point lies in the middle of the codes, an asymmetric one at either end in the worst case.
  return ProveGroups(view, a.quantizer.symmetric ? (width + 1) / 2 : width);
}

class LinearDynamicStep : public Step {
 public:
  LinearDynamicStep(const PrepareContext& context, const kernels::reference::DynamicLinear& layer, const Attributes& attributes)
      : set_(context.kernels),
        quantizer_(attributes.quantizer),
        per_tensor_(attributes.per_tensor),
        packed_(context.kernels, layer, attributes.quantizer),
        output_(OutputOf(context.view, attributes.activation)) {
    shape_.c = layer.inputs;
    shape_.oc = layer.outputs;
    const bool reference = set_.isa == Isa::kReference;
    info_.executed_as = reference ? "reference" : "u8s" + std::to_string(packed_.bits()) + "-dynamic-" + IsaName(set_.isa);
    info_.reason = std::string(per_tensor_ ? "the input is" : "rows are") + " quantized at run time";
    if (layer.groups > 1) info_.reason += ", " + std::to_string(layer.groups) + " groups of weights";
    info_.weight_bytes = packed_.bytes();
    for (int32_t codes = quantizer_.qmax; codes > 0; codes /= 2) ++info_.act_bits;
  }

  size_t ScratchBytes(const ConcreteShape&, const ConcreteShape&) const override {
    return std::max(packed_.ScratchBytes(), sizeof(Bounds));
  }

  void Run(const RunArgs& args) const noexcept override {
    kernels::ConvShape shape = shape_;
    shape.n = args.out.count() / shape.oc;
    linear::DynamicRun run;
    run.x = args.in[0].f32();
    run.output = output_;
    run.y = args.out.data;
    const int threads = args.pool ? args.pool->threads() : 1;
    kernels::Affine parameters;
    if (per_tensor_) {
      parameters = TensorParameters(args, threads);
      run.parameters = &parameters;
    }
    const int64_t worthwhile = std::max<int64_t>(ConvMacs(shape) / kMacGrain, 1);
    const int parts = static_cast<int>(std::min<int64_t>(worthwhile, threads));
    const conv::Work work = packed_.OutputWork(shape.n);
    ParallelFor(args.pool, parts, 1, [&](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) {
        const conv::ConvPart piece = conv::Split(work, parts, static_cast<int>(part));
        packed_.Run(run, piece, args.Scratch(part));
      }
    });
  }

 private:
  struct Bounds {
    float lo, hi;
  };

  // Every thread finds the range of its piece and leaves it in its scratch memory.
  kernels::Affine TensorParameters(const RunArgs& args, int threads) const {
    const int64_t n = args.in[0].count();
    const int pieces = static_cast<int>(std::max<int64_t>(std::min<int64_t>(n / kGrain, threads), 1));
    const auto at = [&](int64_t piece) { return reinterpret_cast<Bounds*>(args.Scratch(piece)); };
    ParallelFor(args.pool, pieces, 1, [&](int64_t begin, int64_t end) {
      for (int64_t piece = begin; piece < end; ++piece) {
        const int64_t first = n * piece / pieces, last = n * (piece + 1) / pieces;
        set_.range(args.in[0].f32() + first, static_cast<size_t>(last - first), &at(piece)->lo, &at(piece)->hi);
      }
    });
    float lo = 0, hi = 0;
    for (int piece = 0; piece < pieces; ++piece) {
      lo = std::min(lo, at(piece)->lo);
      hi = std::max(hi, at(piece)->hi);
    }
    return kernels::reference::RowParameters(quantizer_, lo, hi);
  }

  const kernels::KernelSet& set_;
  kernels::RowQuantizer quantizer_;
  bool per_tensor_;
  kernels::ConvShape shape_;
  linear::PackedLinearDynamic packed_;
  kernels::Output output_;
};

Result<std::unique_ptr<Step>> Prepare(const PrepareContext& context) {
  const NodeView& view = context.view;
  PQI_ASSIGN_OR_RETURN(const std::vector<int8_t> codes, Codes(view));
  const Attributes attributes = Read(view);
  const Span<const float> scale = Elements<float>(view, "scale"), bias = Elements<float>(view, "bias");
  const Span<const int32_t> base = Elements<int32_t>(view, "base");
  kernels::reference::DynamicLinear layer;
  layer.outputs = view.constant("weight")->shape[0];
  layer.inputs = view.constant("weight")->shape[1];
  layer.groups = GroupsOf(view);
  layer.codes = codes.data();
  layer.step = attributes.step;
  layer.scale = scale.data();
  layer.base = base.empty() ? nullptr : base.data();
  layer.bias = bias.empty() ? nullptr : bias.data();
  return std::unique_ptr<Step>(std::make_unique<LinearDynamicStep>(context, layer, attributes));
}

int64_t Macs(const NodeView& view, const ConcreteShape& in, const ConcreteShape&) {
  kernels::ConvShape shape;
  for (size_t i = 0; i + 1 < in.size(); ++i) shape.n *= in[i];
  shape.c = view.constant("weight")->shape[1];
  shape.oc = view.constant("weight")->shape[0];
  return ConvMacs(shape);
}

}  // namespace

const Op kLinearDynamic = {{"linear_dynamic", Check, Infer, Prove}, Prepare, Macs};

}  // namespace pqi::ops
