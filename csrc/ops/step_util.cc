#include "ops/step_util.h"

#include "kernels/reference/quantize.h"

namespace pqi::ops {

kernels::Affine AffineOf(const Quant& q) { return {q.zero_point, q.scale}; }

kernels::Affine AffineOf(const Graph& graph, const Value& value) {
  return value.dtype == DType::kU8 ? AffineOf(QuantOf(graph, value)) : kernels::Affine{};
}

kernels::Output OutputOf(const NodeView& view, const Bounds& activation) {
  kernels::Output o;
  o.act_lo = activation.lo;
  o.act_hi = activation.hi;
  o.f32 = view.output(0).dtype != DType::kU8;  // integers have no parameters either, and no kernel writes them
  if (o.f32) return o;
  const Quant& q = QuantOf(view.graph, view.output(0));
  o.inv_scale = kernels::reference::InverseScale(q.scale);
  o.v_lo = static_cast<float>(q.qmin - q.zero_point);
  o.v_hi = static_cast<float>(q.qmax - q.zero_point);
  o.zero_point = q.zero_point;
  return o;
}

std::string ElementwiseName(const kernels::KernelSet& set) {
  return set.isa == Isa::kReference ? "reference" : std::string("elementwise-") + IsaName(set.isa);
}

kernels::PoolShape PoolShapeOf(const WindowAxis& rows, const WindowAxis& columns) {
  kernels::PoolShape s;
  s.kh = rows.kernel;
  s.kw = columns.kernel;
  s.stride_h = rows.stride;
  s.stride_w = columns.stride;
  s.pad_top = rows.pad_before;
  s.pad_bottom = rows.pad_after;
  s.pad_left = columns.pad_before;
  s.pad_right = columns.pad_after;
  s.dilation_h = rows.dilation;
  s.dilation_w = columns.dilation;
  return s;
}

kernels::PoolShape BindPool(const kernels::PoolShape& shape, const ConcreteShape& in, const ConcreteShape& out) {
  kernels::PoolShape s = shape;
  s.n = in[0];
  s.h = in[1];
  s.w = in[2];
  s.c = in[3];
  s.out_h = out[1];
  s.out_w = out[2];
  return s;
}

}  // namespace pqi::ops
