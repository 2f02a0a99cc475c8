// The order of weights inside a panel (kernels/contract.h).
#pragma once

#include <cstdint>

#include "kernels/contract.h"

namespace pqi::pack {

// One panel: n <= nr channels of [taps][k] weights, k in blocks of kr, channels interleaved by kr values. Channel c starts at
// channels + c * taps * k. The panel's padding is left as it is.
template <typename T>
void PackPanel(const kernels::TileShape& tile, int64_t taps, int64_t k, const T* channels, int64_t n, T* panel) {
  const int64_t nr = tile.nr, kr = tile.kr, block = nr * kr, blocks = (k + kr - 1) / kr;
  for (int64_t c = 0; c < n; ++c) {
    const T* w = channels + c * taps * k;
    for (int64_t tap = 0; tap < taps; ++tap) {
      for (int64_t i = 0; i < k; ++i) panel[(tap * blocks + i / kr) * block + c * kr + i % kr] = w[tap * k + i];
    }
  }
}

}  // namespace pqi::pack
