// linear: the last axis of x times the rows of the weight.
#include "ops/conv_step.h"
#include "ops/families.h"
#include "ops/schema.h"
#include "ops/weighted.h"

namespace pqi::ops {
namespace {

Status Check(const NodeView& view) {
  AttrReader attrs(view);
  return CheckWeighted(view, 2, &attrs);
}

Status Infer(const NodeView& view, const std::vector<Shape>& inputs, std::vector<Shape>* outputs) {
  const std::vector<int64_t>& weight = view.constant("weight")->shape;
  Shape out = inputs[0];
  if (out.empty()) return NodeError(view, "the input must have at least 1 dimension");
  PQI_RETURN_IF_ERROR(CheckDim(view, inputs, 0, out.size() - 1, weight[1]));
  out.back() = Dim::Fixed(weight[0]);
  PQI_RETURN_IF_ERROR(CheckResidual(view, inputs, out));
  outputs->assign(1, out);
  return {};
}

ConvGeometry Geometry(const NodeView& view) {
  const std::vector<int64_t>& weight = view.constant("weight")->shape;
  ConvGeometry g;
  g.linear = true;
  g.shape.oc = weight[0];
  g.shape.c = weight[1];
  return g;
}

Result<std::unique_ptr<Step>> Prepare(const PrepareContext& context) {
  AttrReader attrs(context.view);
  return MakeConvStep(context, Geometry(context.view), ReadActivation(&attrs));
}

int64_t Macs(const NodeView& view, const ConcreteShape& in, const ConcreteShape&) { return ConvMacs(Geometry(view).Bind(in)); }

}  // namespace

const Op kLinear = {{"linear", Check, Infer, ProveWeighted}, Prepare, Macs};

}  // namespace pqi::ops
