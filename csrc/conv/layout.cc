#include "conv/layout.h"

#include "conv/method.h"
#include "pack/arrange.h"

namespace pqi::conv {
namespace {

ConvLayout Layout(const Request& request) {
  ConvLayout layout;
  layout.algorithm = request.algorithm;
  layout.tile = request.tile();
  layout.element_bytes = request.element_bytes();
  layout.taps = request.shape.taps();
  layout.k = request.shape.group_inputs();
  layout.has_bias = request.has_bias;
  layout.has_base = request.has_base();
  layout.method = request.algorithm.method != nullptr ? request.algorithm.method : &MethodFor(request);
  layout.method->layout(request, &layout);
  layout.weights = pack::Append(&layout.bytes, layout.panel_bytes * static_cast<size_t>(layout.panels));
  const size_t parameters = layout.channels * 4;
  if (request.codes != nullptr) {
    layout.scale = pack::Append(&layout.bytes, parameters);
    layout.init = pack::Append(&layout.bytes, parameters * static_cast<size_t>(layout.starts));
  }
  if (layout.has_bias) layout.bias = pack::Append(&layout.bytes, parameters);
  if (layout.has_base) layout.base = pack::Append(&layout.bytes, parameters);
  return layout;
}

}  // namespace

ConvLayout LayoutConvU8(const kernels::KernelSet& set, const kernels::ConvShape& shape, const pack::WeightsU8& weights,
                        const Algorithm& algorithm) {
  return Layout({set, shape, &weights, weights.bias != nullptr, algorithm});
}

ConvLayout LayoutConvF32(const kernels::KernelSet& set, const kernels::ConvShape& shape, const pack::WeightsF32& weights) {
  return Layout({set, shape, nullptr, weights.bias != nullptr, {}});
}

}  // namespace pqi::conv
