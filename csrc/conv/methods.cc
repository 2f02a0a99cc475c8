// The table of convolution methods, and what several of them share.
#include <algorithm>

#include "conv/method.h"
#include "pack/arrange.h"

namespace pqi::conv {
namespace {

const ConvMethod* const kMethods[] = {
#define PQI_CONV_METHOD(row, source) &row,
#include "conv/list.inc"
#undef PQI_CONV_METHOD
};

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

Span<const ConvMethod* const> AllMethods() { return {kMethods, sizeof kMethods / sizeof *kMethods}; }

const ConvMethod& MethodFor(const Request& request) {
  return **std::find_if(std::begin(kMethods), std::end(kMethods), [&](const ConvMethod* m) { return m->suits(request); });
}

ConvLayout LayoutConvU8(const kernels::KernelSet& set, const kernels::ConvShape& shape, const pack::WeightsU8& weights,
                        const Algorithm& algorithm) {
  return Layout({set, shape, &weights, weights.bias != nullptr, algorithm});
}

ConvLayout LayoutConvF32(const kernels::KernelSet& set, const kernels::ConvShape& shape, const pack::WeightsF32& weights) {
  return Layout({set, shape, nullptr, weights.bias != nullptr, {}});
}

void PackStartValues(const ConvLayout& layout, const kernels::ConvShape& shape, const pack::WeightsU8& weights, Packed* packed) {
  pack::PackChannels(layout, shape, pack::StartValues(shape, weights, layout.offset).data(), packed->buffer.data() + layout.init);
}

Work EvenWork(const ConvLayout& layout, const kernels::ConvShape& s, int64_t units) {
  Work work;
  work.rows = units;
  work.panels = layout.panels;
  work.panel_bytes = static_cast<int64_t>(layout.panel_bytes);
  work.macs = std::max<int64_t>(s.taps() * s.group_inputs() * s.oc / layout.panels * s.rows() / std::max<int64_t>(units, 1), 1);
  work.row_bytes = std::min(s.n * s.h * s.w, s.rows() * s.taps()) * s.c / std::max<int64_t>(units, 1);
  return work;
}

Work PixelWork(const ConvLayout& layout, const kernels::ConvShape& s) { return EvenWork(layout, s, s.rows()); }

}  // namespace pqi::conv
