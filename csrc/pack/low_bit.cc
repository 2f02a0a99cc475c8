#include "pack/low_bit.h"

#include <algorithm>

#include "pack/winograd_codes.h"
#include "pack/winograd_filter.h"

namespace pqi::pack {

AlignedBuffer<int8_t> TransformCodes(const ConvLayout& layout, const kernels::ConvShape& s, const WeightsU8& weights, const int32_t* start,
                                     LeastCodes* least, void* init) {
  const Winograd winograd = layout.algorithm.winograd;
  const WinogradFilter& filter = FilterOf(winograd);
  const int64_t k = layout.k, nr = layout.tile.nr, row = filter.taps * k;
  AlignedBuffer<int8_t> codes(static_cast<size_t>(s.oc * filter.positions * row));
  least->fill(0);
  for (int64_t o = 0; o < s.oc; ++o) {
    for (int64_t c = 0; c < s.c; c += kCodeLanes) {
      CodeLanes u[kMaxTaps];
      const int64_t n = std::min<int64_t>(kCodeLanes, s.c - c);
      TransformKernels(winograd, weights.codes + o * 9 * s.c + c, s.c, n, u);
      for (int i = 0; i < layout.taps; ++i) {
        int8_t* out = codes.data() + (o * layout.taps + i) * k + c;
        int8_t least_code = (*least)[static_cast<size_t>(i / filter.taps)];
        for (int64_t j = 0; j < n; ++j) {
          out[j] = static_cast<int8_t>(u[i].v[j]);
          least_code = std::min(least_code, out[j]);
        }
        (*least)[static_cast<size_t>(i / filter.taps)] = least_code;
      }
    }
  }
  int32_t* out = static_cast<int32_t*>(init);
  for (int64_t o = 0; o < s.oc; ++o) {
    for (int p = 0; p < filter.positions; ++p) {
      int8_t* at = codes.data() + (o * filter.positions + p) * row;
      uint32_t sum = 0, value = 0;
      if (p == filter.common) value = static_cast<uint32_t>(filter.common_factor) * static_cast<uint32_t>(start[o]);
      for (int64_t i = 0; i < row; ++i) sum += static_cast<uint32_t>(at[i]);
      value -= static_cast<uint32_t>(WinogradOffset(winograd, p, weights.qmin, weights.qmax)) * sum;
      if (layout.algorithm.product == Product::kInnerProduct) value -= ShiftCodes(at, row, (*least)[static_cast<size_t>(p)]);
      out[(o / nr * filter.positions + p) * nr + o % nr] = static_cast<int32_t>(value);
    }
  }
  return codes;
}

uint32_t ShiftCodes(int8_t* codes, int64_t n, int least) {
  uint32_t products = 0;
  for (int64_t i = 0; i < n; i += 8) {
    for (int64_t j = i; j < i + 4; ++j) {
      const int y0 = codes[j] - least - 128, y1 = codes[j + 4] - least;
      products += static_cast<uint32_t>(y0 * y1 - least * (least + 128));
      codes[j] = static_cast<int8_t>(y0);
      codes[j + 4] = static_cast<int8_t>(y1);
    }
  }
  return products;
}

}  // namespace pqi::pack
