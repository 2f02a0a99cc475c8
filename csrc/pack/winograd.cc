#include "pack/winograd.h"

#include <algorithm>

#include "pack/arrange.h"
#include "pack/low_bit.h"

namespace pqi::pack {
namespace {

using kernels::ConvShape;

// Offsets in bytes into the scratch memory, for kWinogradTiles tiles.
struct Offsets {
  size_t padding = 0;  // u8[c]: a pixel of padding
  size_t pixels = 0;   // const uint8_t*[tiles][16]
  size_t rows = 0;     // const uint8_t*[16][tiles]: the rows of v
  size_t v = 0;        // u8[16][tiles][stride]
  size_t sums = 0;     // int32[16][tiles][nr]
  size_t terms = 0;    // int32[16][tiles], for inner products
  size_t bytes = 0;
  size_t stride, v_plane, sum_plane;  // sum_plane in elements

  // A line between planes keeps the sixteen positions of a tile in different sets of L1.
  Offsets(const ConvLayout& layout, const ConvShape& s) {
    constexpr size_t kTiles = kWinogradTiles, kPositions = kWinogradPositions;
    stride = static_cast<size_t>(RoundUp(s.c, kernels::kWinogradPad));
    v_plane = kTiles * stride + kAlignment;
    sum_plane = kTiles * static_cast<size_t>(layout.tile.nr) + kAlignment / sizeof(int32_t);
    padding = Append(&bytes, stride);
    pixels = Append(&bytes, kTiles * kPositions * sizeof(const uint8_t*));
    rows = Append(&bytes, kTiles * kPositions * sizeof(const uint8_t*));
    v = Append(&bytes, kPositions * v_plane);
    sums = Append(&bytes, kPositions * sum_plane * sizeof(int32_t));
    terms = Append(&bytes, kPositions * kTiles * sizeof(int32_t));
  }
};

// Where a tile lies.
struct TilePlace {
  int64_t image, y, x;  // of its first output pixel
};

struct TileGrid {
  int64_t across, down;
  explicit TileGrid(const ConvShape& s) : across((s.out_w() + 1) / 2), down((s.out_h() + 1) / 2) {}
  TilePlace At(int64_t tile) const { return {tile / across / down, tile / across % down * 2, tile % across * 2}; }
};

// The 4x4 input pixels under a tile; those outside the image are padding.
void PixelPointers(const ConvShape& s, const uint8_t* x, const uint8_t* padding, const TilePlace& tile, const uint8_t** out) {
  const int64_t y0 = tile.y - s.pad_top, x0 = tile.x - s.pad_left;
  if (y0 >= 0 && y0 + 4 <= s.h && x0 >= 0 && x0 + 4 <= s.w) {
    const uint8_t* line = x + ((tile.image * s.h + y0) * s.w + x0) * s.c;
    for (int64_t i = 0; i < 4; ++i, line += s.w * s.c, out += 4) {
      for (int64_t j = 0; j < 4; ++j) out[j] = line + j * s.c;
    }
    return;
  }
  for (int64_t i = 0; i < 4; ++i, out += 4) {
    const int64_t y = y0 + i;
    const bool row_inside = y >= 0 && y < s.h;
    const int64_t first = ((tile.image * s.h + y) * s.w + x0) * s.c;
    for (int64_t j = 0; j < 4; ++j) {
      const bool inside = row_inside && x0 + j >= 0 && x0 + j < s.w;
      out[j] = inside ? x + (first + j * s.c) : padding;
    }
  }
}

}  // namespace

size_t WinogradScratchBytes(const ConvLayout& layout, const ConvShape& shape) { return Offsets(layout, shape).bytes; }

void RunWinograd(const WinogradLayer& layer, const ConvRun<uint8_t>& run, const ConvPart& part, void* scratch) noexcept {
  const ConvShape& s = run.shape;
  const ConvLayout& layout = layer.layout;
  const Offsets offsets(layout, s);
  const TileGrid grid(s);
  uint8_t* memory = static_cast<uint8_t*>(scratch);
  uint8_t* padding = memory + offsets.padding;
  std::fill(padding, padding + s.c, static_cast<uint8_t>(layer.zero_point));
  const uint8_t** pixels = At<const uint8_t*>(memory, offsets.pixels);
  const uint8_t** rows = At<const uint8_t*>(memory, offsets.rows);
  uint8_t* v = memory + offsets.v;
  int32_t* sums = At<int32_t>(memory, offsets.sums);
  int32_t* terms = At<int32_t>(memory, offsets.terms);
  const bool inner_product = layout.algorithm.product == Product::kInnerProduct;
  const kernels::U8S8Kernels& kernels = ProductKernels(layer.set, layout.algorithm.product);
  const size_t nr = static_cast<size_t>(layout.tile.nr), k = static_cast<size_t>(layout.k);
  uint8_t input_offsets[kWinogradPositions];
  for (int p = 0; p < kWinogradPositions; ++p) input_offsets[p] = static_cast<uint8_t>(WinogradOffset(p, layer.qmin, layer.qmax));

  kernels::WinogradOutput output = {};
  output.plane = offsets.sum_plane;
  output.row_pixels = static_cast<size_t>(s.out_w());
  output.epilogue.step = layer.step;
  output.epilogue.output = layer.output;
  output.epilogue.out_stride = run.y_stride;

  for (int64_t i = 0; i < kWinogradPositions * kWinogradTiles; ++i) {
    const size_t position = static_cast<size_t>(i / kWinogradTiles), tile = static_cast<size_t>(i % kWinogradTiles);
    rows[i] = v + position * offsets.v_plane + tile * offsets.stride;
  }
  const int64_t total = part.row_end - part.row_begin, blocks = (total + kWinogradTiles - 1) / kWinogradTiles;
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t first = part.row_begin + PieceBegin(total, blocks, b);
    const int64_t tiles = part.row_begin + PieceBegin(total, blocks, b + 1) - first;
    for (int64_t t = 0; t < tiles; ++t) PixelPointers(s, run.x, padding, grid.At(first + t), pixels + t * kWinogradPositions);
    layer.set.winograd_input(
        {pixels, static_cast<uint32_t>(tiles), static_cast<uint32_t>(s.c), input_offsets, v, offsets.stride, offsets.v_plane});
    for (int64_t p = 0; inner_product && p < kWinogradPositions; ++p) {
      layer.set.row_terms({rows + p * kWinogradTiles, 1, static_cast<uint32_t>(k), static_cast<uint32_t>(tiles),
                           layer.least[static_cast<size_t>(p)], terms + p * kWinogradTiles});
    }
    const int64_t groups = (tiles + layout.tile.mr - 1) / layout.tile.mr;
    for (int64_t panel = part.panel_begin; panel < part.panel_end; ++panel) {
      const size_t at = static_cast<size_t>(panel);
      const int8_t* weights = reinterpret_cast<const int8_t*>(layer.buffer + layout.weights + at * layout.panel_bytes);
      const int32_t* init = reinterpret_cast<const int32_t*>(layer.buffer + layout.init) + at * kWinogradPositions * nr;
      for (int64_t p = 0; p < kWinogradPositions; ++p) {
        const size_t position = static_cast<size_t>(p);
        for (int64_t g = 0; g < groups; ++g) {
          const int64_t t = PieceBegin(tiles, groups, g), m = PieceBegin(tiles, groups, g + 1) - t;
          kernels.product[m - 1]({rows + p * kWinogradTiles + t, 1, static_cast<uint32_t>(k), weights + position * k * nr,
                                  init + position * nr, terms + p * kWinogradTiles + t, layout.algorithm.depth,
                                  sums + position * offsets.sum_plane + static_cast<size_t>(t) * nr, nr, k * nr});
        }
      }
      const int64_t channel = panel * layout.tile.nr;
      output.epilogue.n = static_cast<uint32_t>(std::min<int64_t>(layout.tile.nr, s.oc - channel));
      output.epilogue.scale = reinterpret_cast<const float*>(layer.buffer + layout.scale) + channel;
      output.epilogue.bias = layout.has_bias ? reinterpret_cast<const float*>(layer.buffer + layout.bias) + channel : nullptr;
      // Neighbours in one row of tiles leave together.
      for (int64_t t = 0; t < tiles;) {
        const TilePlace place = grid.At(first + t);
        const int64_t count = std::min(tiles - t, grid.across - place.x / 2);
        const int64_t pixel = (place.image * s.out_h() + place.y) * s.out_w() + place.x;
        output.sums = sums + static_cast<size_t>(t) * nr;
        output.tiles = static_cast<uint32_t>(count);
        output.rows = static_cast<uint32_t>(std::min<int64_t>(2, s.out_h() - place.y));
        output.columns = static_cast<uint32_t>(std::min(2 * count, s.out_w() - place.x));
        output.epilogue.residual = ResidualAt(run.residual, s, pixel, channel);
        output.epilogue.out = OutputAt(run.y, run.output.f32, run.y_stride, pixel, channel);
        layer.set.winograd_output(output);
        t += count;
      }
    }
  }
}

}  // namespace pqi::pack
