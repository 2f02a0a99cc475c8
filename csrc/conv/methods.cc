// The one table of convolution methods.
#include <algorithm>

#include "conv/method.h"

namespace pqi::conv {
namespace {

const ConvMethod* const kMethods[] = {
    &kReferenceMethod, &kMatrixMethod, &kDepthwiseMethod, &kWinogradMethod, &kLinesMethod, &kRunsMethod, &kGatherMethod, &kTilesMethod,
};

}  // namespace

Span<const ConvMethod* const> AllMethods() { return {kMethods, sizeof kMethods / sizeof *kMethods}; }

const ConvMethod& MethodFor(const Request& request) {
  return **std::find_if(std::begin(kMethods), std::end(kMethods), [&](const ConvMethod* m) { return m->suits(request); });
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
