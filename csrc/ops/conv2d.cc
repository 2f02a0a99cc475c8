// conv2d over NHWC images, integer or float.
#include "ops/conv_step.h"
#include "ops/families.h"
#include "ops/schema.h"
#include "ops/weighted.h"
#include "ops/window.h"

namespace pqi::ops {
namespace {

struct Attributes {
  kernels::ConvShape shape;  // n, h, w are not set
  Bounds activation;
};

// The attributes of a node that passed Check.
Attributes ReadAttributes(const NodeView& view) {
  AttrReader attrs(view);
  const auto stride = attrs.UintList<2>("stride", 1, kMaxWindowAttr);
  const auto padding = attrs.UintList<4>("padding", 0, kMaxWindowAttr);
  const auto dilation = attrs.UintList<2>("dilation", 1, kMaxWindowAttr);
  const std::vector<int64_t>& weight = view.constant("weight")->shape;
  Attributes a;
  kernels::ConvShape& s = a.shape;
  s.groups = attrs.Uint("groups", 1, kMaxDim);
  s.oc = weight[0];
  s.kh = weight[1];
  s.kw = weight[2];
  s.c = weight[3] * s.groups;
  s.stride_h = stride[0];
  s.stride_w = stride[1];
  s.pad_top = padding[0];
  s.pad_left = padding[1];
  s.pad_bottom = padding[2];
  s.pad_right = padding[3];
  s.dilation_h = dilation[0];
  s.dilation_w = dilation[1];
  a.activation = ReadActivation(&attrs);
  return a;
}

Status Check(const NodeView& view) {
  AttrReader attrs(view);
  attrs.UintList<2>("stride", 1, kMaxWindowAttr);
  attrs.UintList<4>("padding", 0, kMaxWindowAttr);
  attrs.UintList<2>("dilation", 1, kMaxWindowAttr);
  const int64_t groups = attrs.Uint("groups", 1, kMaxDim);
  PQI_RETURN_IF_ERROR(CheckWeighted(view, 4, &attrs));
  const std::vector<int64_t>& w = view.constant("weight")->shape;
  if (w[0] % groups != 0) {
    return NodeError(view, std::to_string(w[0]) + " output channels cannot be divided into " + std::to_string(groups) + " groups");
  }
  if (w[1] > int64_t{kMaxWindowAttr} || w[2] > int64_t{kMaxWindowAttr}) return NodeError(view, "the kernel is larger than 65535");
  if (w[3] > kMaxDim / groups) return NodeError(view, "the weight's channels times the groups exceed 2^31 - 1");
  return {};
}

Status Infer(const NodeView& view, const std::vector<Shape>& inputs, std::vector<Shape>* outputs) {
  const kernels::ConvShape s = ReadAttributes(view).shape;
  PQI_RETURN_IF_ERROR(CheckRank(view, inputs, 0, 4));
  PQI_RETURN_IF_ERROR(CheckDim(view, inputs, 0, 3, s.c));
  Shape out{inputs[0][0], Dim(), Dim(), Dim::Fixed(s.oc)};
  const WindowAxis rows{s.kh, s.stride_h, s.pad_top, s.pad_bottom, s.dilation_h};
  const WindowAxis columns{s.kw, s.stride_w, s.pad_left, s.pad_right, s.dilation_w};
  PQI_RETURN_IF_ERROR(InferWindow(view, rows, inputs[0][1], false, &out[1]));
  PQI_RETURN_IF_ERROR(InferWindow(view, columns, inputs[0][2], false, &out[2]));
  PQI_RETURN_IF_ERROR(CheckResidual(view, inputs, out));
  outputs->assign(1, out);
  return {};
}

ConvGeometry Geometry(const NodeView& view) { return {ReadAttributes(view).shape, false}; }

Result<std::unique_ptr<Step>> Prepare(const PrepareContext& context) {
  return MakeConvStep(context, Geometry(context.view), ReadAttributes(context.view).activation);
}

int64_t Macs(const NodeView& view, const ConcreteShape& in, const ConcreteShape&) { return ConvMacs(Geometry(view).Bind(in)); }

}  // namespace

const Op kConv2d = {{"conv2d", Check, Infer, ProveWeighted}, Prepare, Macs};

}  // namespace pqi::ops
