// Calls of tile kernels: what all tiles of a run share is set once, what differs is filled in for each. Tiles over pointers (tiles.cc) and
// over padded lines (lines.cc) use the same kernels.
#pragma once

#include <cstdint>

#include "conv/ahead.h"
#include "conv/method.h"
#include "conv/tiling.h"

namespace pqi::conv {

// The state is filled in place and never copied: a copy of it stalled every AVX2 tile.
class TileCallsU8 {
 public:
  TileCallsU8(const LayerU8& layer, const ConvRun<uint8_t>& run, const ConvPart& part)
      : layer_(layer),
        run_(run),
        layout_(layer.layout),
        mr_(TileRows(layer.set, layer.layout, layer.packed)),
        next_(layout_.tile, layout_.panel_bytes),
        scope_(layer.set),
        has_residual_(run.residual.u8 != nullptr || run.residual.f32 != nullptr),
        in_pairs_(layer.packed.pairs.used()),
        f32_(run.output.f32),
        y_(run.y) {
    panel_end_ = part.panel_end;
    const bool dot = layout_.algorithm.product == Product::kDot;
    tiles_ = dot ? layer.set.u8s8_tile : KernelsOf(layer.set, layout_.algorithm.product).tile;
    weights_ = layer.weights();
    init_ = layer.init();
    scale_ = layer.scale();
    bias_ = layer.bias();
    base_ = layer.base();
    kernels::TileU8S8& t = pairs_.tile;
    t.taps = static_cast<uint32_t>(layout_.taps);
    t.k = static_cast<uint32_t>(layout_.k);
    t.step = layer.step;
    t.output = layer.output;
    t.out_stride = run.y_stride;
    t.depth = layout_.algorithm.depth;
  }
  TileCallsU8(const TileCallsU8&) = delete;
  TileCallsU8& operator=(const TileCallsU8&) = delete;

  int64_t mr() const { return mr_; }

  // box[i] = sum(q_a - z_a) over `taps` pieces of k codes of each of m rows; a and tap_step as in kernels/contract/tile.h.
  void BoxSums(const uint8_t* const* a, int64_t tap_step, int64_t taps, int64_t k, int64_t m, int32_t* box) const {
    for (int64_t i = 0; i < m; ++i) {
      int32_t sum = 0;
      for (int64_t tap = 0; tap < taps; ++tap) {
        const uint8_t* q = tap_step == 0 ? a[tap * m + i] : a[i] + tap * tap_step;
        for (int64_t j = 0; j < k; ++j) sum += q[j];
      }
      box[i] = sum - static_cast<int32_t>(taps * k) * layer_.zero_point;
    }
  }

  // What the kernels need to know of each row beside its codes.
  void RowValues(const uint8_t* const* a, int64_t m, int32_t* box, int32_t* terms) const {
    if (layout_.has_base) BoxSums(a, 0, layout_.taps, layout_.k, m, box);
    if (layout_.algorithm.product == Product::kInnerProduct) {
      layer_.set.row_terms({a, 0, pairs_.tile.taps, pairs_.tile.k, static_cast<uint32_t>(m), layer_.packed.least[0], terms});
    }
  }

  void operator()(const Tile<uint8_t>& tile) {
    const int64_t channel = tile.panel * layout_.tile.nr;
    kernels::TileU8S8& t = pairs_.tile;
    t.a = tile.a;
    t.tap_step = static_cast<size_t>(tile.tap_step);
    t.n = static_cast<uint32_t>(tile.n);
    t.w = weights_ + static_cast<size_t>(tile.panel) * layout_.panel_bytes;
    t.ahead = tile.panel + 1 < panel_end_ ? next_.Ahead(t.w, tile.index, tile.tiles) : nullptr;
    t.init = init_ + channel;
    t.scale = scale_ + channel;
    t.bias = bias_ != nullptr ? bias_ + channel : nullptr;
    t.base = base_ != nullptr ? base_ + channel : nullptr;
    t.box = tile.box;
    t.row = tile.terms;
    if (has_residual_) t.residual = ResidualAt(run_.residual, run_.shape, tile.row, tile.channel);
    t.out = OutputAt(y_, f32_, t.out_stride, tile.row, tile.channel);
    if (!in_pairs_) return tiles_[tile.m - 1](t);
    const pack::PairExtras& extras = layer_.packed.pairs;
    const size_t* first = extras.first.data() + 2 * tile.panel;
    pairs_.extra = extras.at.data() + first[0];
    pairs_.extra_w = reinterpret_cast<const int8_t*>(extras.weights.data()) + first[0] * static_cast<size_t>(layout_.tile.nr) * 2;
    pairs_.extras[0] = static_cast<uint32_t>(first[1] - first[0]);
    pairs_.extras[1] = static_cast<uint32_t>(first[2] - first[1]);
    layer_.set.u8s8_pairs_tile[tile.m - 1](pairs_);
  }

 private:
  const LayerU8& layer_;
  const ConvRun<uint8_t>& run_;
  const ConvLayout& layout_;
  const int64_t mr_;
  const NextPanel next_;
  const kernels::TileScope scope_;
  const bool has_residual_, in_pairs_, f32_;
  void* const y_;
  int64_t panel_end_;
  const kernels::TileU8S8Fn* tiles_;
  const int8_t* weights_;
  const int32_t* init_;
  const float* scale_;
  const float* bias_;
  const int32_t* base_;
  kernels::TileU8S8Pairs pairs_ = {};  // its tile alone where the layer does not run in pairs
};

class TileCallsF32 {
 public:
  TileCallsF32(const LayerF32& layer, const ConvRun<float>& run)
      : set_(layer.set), run_(run), layout_(layer.layout), weights_(layer.weights()), bias_(layer.bias()) {
    tile_.taps = static_cast<uint32_t>(layout_.taps);
    tile_.k = static_cast<uint32_t>(layout_.k);
    tile_.act_lo = run.output.act_lo;
    tile_.act_hi = run.output.act_hi;
    tile_.out_stride = run.y_stride;
  }
  TileCallsF32(const TileCallsF32&) = delete;
  TileCallsF32& operator=(const TileCallsF32&) = delete;

  int64_t mr() const { return layout_.tile.mr; }

  void operator()(const Tile<float>& tile) {
    kernels::TileF32& t = tile_;
    t.a = tile.a;
    t.tap_step = static_cast<size_t>(tile.tap_step);
    t.n = static_cast<uint32_t>(tile.n);
    t.w = weights_ + static_cast<size_t>(tile.panel) * layout_.panel_bytes / sizeof(float);
    t.bias = bias_ != nullptr ? bias_ + tile.panel * layout_.tile.nr : nullptr;
    t.residual = ResidualAt(run_.residual, run_.shape, tile.row, tile.channel);
    t.out = static_cast<float*>(OutputAt(run_.y, true, run_.y_stride, tile.row, tile.channel));
    set_.f32_tile[tile.m - 1](t);
  }

 private:
  const kernels::KernelSet& set_;
  const ConvRun<float>& run_;
  const ConvLayout& layout_;
  const float* weights_;
  const float* bias_;
  kernels::TileF32 tile_ = {};
};

// Packs panels of codes that the tiles read, in pairs where those pay.
inline void PackTilePanels(const kernels::KernelSet& set, const ConvLayout& layout, const kernels::ConvShape& shape, const int8_t* codes,
                           Packed* packed) {
  int8_t* panels = reinterpret_cast<int8_t*>(packed->buffer.data() + layout.weights);
  pack::PackPanels(layout, shape, codes, panels);
  if (layout.algorithm.product == Product::kDot) packed->pairs = pack::SplitPairs(set, layout, panels);
}

}  // namespace pqi::conv
