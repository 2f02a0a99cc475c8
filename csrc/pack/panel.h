// Panels: the order in which tile kernels read weights (kernels/contract/tile.h).
//
// A panel holds the weights of the nr output channels that one kernel call computes. A layer has as many as its channels need, group by
// group; the last panel of a group is filled up with zeros.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/contract/tile.h"
#include "kernels/shapes.h"
#include "pack/arrange.h"

namespace pqi::pack {

// How the weights of a layer are cut into panels, one behind the other.
struct PanelGrid {
  kernels::TileShape tile;
  int64_t taps = 1, k = 1;  // pieces of a channel's weights, and the elements of a piece, as the kernel counts them
  int64_t panels_per_group = 1;
  int64_t panels = 1;  // of all groups together; 1 where a method does not cut
  size_t panel_bytes = 0;
  size_t channels = 0;  // of all panels together, so more than the layer's where the last panel of a group is filled up
};

// Computes the panels of a grid whose tile, taps and k are set.
inline void CutPanels(const kernels::ConvShape& s, int64_t element_bytes, PanelGrid* grid) {
  grid->panels_per_group = CeilDiv(s.group_outputs(), grid->tile.nr);
  grid->panels = grid->panels_per_group * s.groups;
  grid->panel_bytes = static_cast<size_t>(grid->taps * RoundUp(grid->k, grid->tile.kr) * grid->tile.nr * element_bytes);
  grid->channels = static_cast<size_t>(grid->panels * grid->tile.nr);
}

// Where k-value i of a row of k lies among the k-values of its panel. A last block of kr values that k does not fill is filled from its
// end, because the kernel reads the last kr activations of the row again.
inline int64_t PanelPosition(int64_t k, int64_t kr, int64_t i) {
  const int64_t whole = k / kr * kr;
  return i < whole || k < kr ? i : i + (whole + kr - k);
}

// Fills one panel from n <= nr channels of [taps][k] weights: k in blocks of kr values, channels interleaved block by block. Channel c
// starts at channels + c * taps * k. What the weights do not cover is left as it is.
template <typename T>
void PackPanel(const kernels::TileShape& tile, int64_t taps, int64_t k, const T* channels, int64_t n, T* panel) {
  const int64_t nr = tile.nr, kr = tile.kr, block = nr * kr, blocks = (k + kr - 1) / kr;
  for (int64_t c = 0; c < n; ++c) {
    const T* w = channels + c * taps * k;
    for (int64_t tap = 0; tap < taps; ++tap) {
      int64_t i = 0;
      if constexpr (sizeof(T) == 1) {
        if (kr == 4) {  // whole blocks by words
          for (; i + 4 <= k; i += 4) std::memcpy(panel + (tap * blocks + i / 4) * block + c * 4, w + tap * k + i, 4);
        }
      }
      for (; i < k; ++i) {
        const int64_t at = PanelPosition(k, kr, i);
        panel[(tap * blocks + at / kr) * block + c * kr + at % kr] = w[tap * k + i];
      }
    }
  }
}

// Calls fn(first channel, n channels, panel) for every panel of a layer; `panels` is zeroed memory for all of them.
template <typename T, typename Fn>
void ForEachPackedPanel(const PanelGrid& grid, const kernels::ConvShape& s, T* panels, Fn&& fn) {
  for (int64_t p = 0; p < grid.panels; ++p) {
    const int64_t group = p / grid.panels_per_group, first = p % grid.panels_per_group * grid.tile.nr;
    const int64_t n = std::min<int64_t>(grid.tile.nr, s.group_outputs() - first);
    fn(group * s.group_outputs() + first, n, panels + static_cast<size_t>(p) * grid.panel_bytes / sizeof(T));
  }
}

// All panels of a layer, from weights [oc][taps][k].
template <typename T>
void PackPanels(const PanelGrid& grid, const kernels::ConvShape& s, const T* weights, T* panels) {
  ForEachPackedPanel(grid, s, panels, [&](int64_t channel, int64_t n, T* panel) {
    PackPanel(grid.tile, grid.taps, grid.k, weights + channel * grid.taps * grid.k, n, panel);
  });
}

// A parameter of each output channel, [oc], to where the channels of the panels find it: `target` has grid.channels elements.
template <typename T>
void PackChannels(const PanelGrid& grid, const kernels::ConvShape& s, const T* source, void* target) {
  T* out = static_cast<T*>(target);
  const int64_t per_group = grid.panels > 1 ? s.group_outputs() : s.oc;
  const int64_t groups = grid.panels > 1 ? s.groups : 1;
  const int64_t padded = static_cast<int64_t>(grid.channels) / groups;
  for (int64_t g = 0; g < groups; ++g) std::memcpy(out + g * padded, source + g * per_group, static_cast<size_t>(per_group) * sizeof(T));
}

}  // namespace pqi::pack
