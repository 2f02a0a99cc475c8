#include "pack/winograd.h"

#include <algorithm>

#include "pack/ahead.h"
#include "pack/arrange.h"
#include "pack/low_bit.h"
#include "pack/winograd_filter.h"
#include "pack/winograd_input.h"

namespace pqi::pack {
namespace {

using kernels::ConvShape;

// The thread's scratch memory for a block of tiles.
struct Offsets {
  size_t bytes = 0;
  TransformedLayout input;
  size_t sums;       // int32[positions][tiles][nr]
  size_t terms;      // int32[positions][tiles], for inner products
  size_t sum_plane;  // in elements

  // As for the input, a line between planes.
  Offsets(const ConvLayout& layout, const ConvShape& s) : input(layout, s, &bytes) {
    const size_t positions = static_cast<size_t>(FilterOf(layout.algorithm.winograd).positions),
                 tiles = static_cast<size_t>(layout.block_rows);
    sum_plane = tiles * static_cast<size_t>(layout.tile.nr) + kAlignment / sizeof(int32_t);
    sums = Append(&bytes, positions * sum_plane * sizeof(int32_t));
    terms = Append(&bytes, positions * tiles * sizeof(int32_t));
  }
};

}  // namespace

size_t WinogradScratchBytes(const ConvLayout& layout, const ConvShape& shape) { return Offsets(layout, shape).bytes; }

void RunWinograd(const WinogradLayer& layer, const ConvRun<uint8_t>& run, const ConvPart& part, void* scratch) noexcept {
  const ConvShape& s = run.shape;
  const ConvLayout& layout = layer.layout;
  const WinogradFilter& filter = FilterOf(layout.algorithm.winograd);
  const Offsets offsets(layout, s);
  const TileGrid grid(filter, s);
  uint8_t* memory = static_cast<uint8_t*>(scratch);
  TransformedInput input(layer, offsets.input, run, memory);
  int32_t* sums = At<int32_t>(memory, offsets.sums);
  int32_t* terms = At<int32_t>(memory, offsets.terms);
  const bool inner_product = layout.algorithm.product == Product::kInnerProduct;
  const kernels::U8S8Kernels& kernels = ProductKernels(layer.set, layout.algorithm.product);
  const kernels::WinogradKernels& transforms = FilterKernels(layer.set, layout.algorithm.winograd);
  const uint32_t taps = static_cast<uint32_t>(filter.taps), k = static_cast<uint32_t>(layout.k);
  const size_t nr = static_cast<size_t>(layout.tile.nr), position_bytes = taps * k * nr;
  const NextPanel next(layout.tile, position_bytes);

  kernels::WinogradOutput output = {};
  output.plane = offsets.sum_plane;
  output.row_pixels = static_cast<size_t>(s.out_w());
  output.epilogue.step = layer.step;
  output.epilogue.output = layer.output;
  output.epilogue.out_stride = run.y_stride;

  const int64_t total = part.row_end - part.row_begin, block = layout.block_rows, blocks = CeilDiv(total, block);
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t first = part.row_begin + PieceBegin(total, blocks, b);
    const int64_t tiles = part.row_begin + PieceBegin(total, blocks, b + 1) - first;
    input.Load(first, tiles);
    const int64_t groups = CeilDiv(tiles, layout.tile.mr);
    if (inner_product) {
      const int64_t lists = taps > 1 ? groups : 1;  // of pointers: those of one tap go on from product to product
      for (int64_t l = 0; l < lists; ++l) {
        const int64_t t = PieceBegin(tiles, lists, l), m = PieceBegin(tiles, lists, l + 1) - t;
        for (int64_t p = 0; p < filter.positions; ++p) {
          layer.set.row_terms({input.Rows(t), static_cast<size_t>(p) * offsets.input.plane, taps, k, static_cast<uint32_t>(m),
                               layer.least[static_cast<size_t>(p)], terms + p * block + t});
        }
      }
    }
    for (int64_t panel = part.panel_begin; panel < part.panel_end; ++panel) {
      const size_t at = static_cast<size_t>(panel);
      const int8_t* weights = reinterpret_cast<const int8_t*>(layer.buffer + layout.weights + at * layout.panel_bytes);
      const int32_t* init = reinterpret_cast<const int32_t*>(layer.buffer + layout.init) + at * static_cast<size_t>(filter.positions) * nr;
      for (int64_t p = 0; p < filter.positions; ++p) {
        const size_t position = static_cast<size_t>(p);
        for (int64_t g = 0; g < groups; ++g) {
          const int64_t t = PieceBegin(tiles, groups, g), m = PieceBegin(tiles, groups, g + 1) - t;
          const int8_t* w = weights + position * position_bytes;
          const int8_t* ahead = next.Ahead(w, g, groups);
          kernels.product[m - 1]({input.Rows(t), position * offsets.input.plane, taps, k, w, init + position * nr, terms + p * block + t,
                                  layout.algorithm.depth, sums + position * offsets.sum_plane + static_cast<size_t>(t) * nr,
                                  ahead != nullptr ? ahead : w});
        }
      }
      const int64_t channel = panel * layout.tile.nr;
      output.epilogue.n = static_cast<uint32_t>(std::min<int64_t>(layout.tile.nr, s.oc - channel));
      output.epilogue.scale = reinterpret_cast<const float*>(layer.buffer + layout.scale) + channel;
      output.epilogue.bias = layout.has_bias ? reinterpret_cast<const float*>(layer.buffer + layout.bias) + channel : nullptr;
      // Neighbours in one row of tiles leave together.
      for (int64_t t = 0; t < tiles;) {
        const TileGrid::Place place = grid.At(first + t);
        const int64_t count = std::min(tiles - t, grid.across - place.x / grid.columns);
        const int64_t pixel = (place.image * s.out_h() + place.y) * s.out_w() + place.x;
        output.sums = sums + static_cast<size_t>(t) * nr;
        output.tiles = static_cast<uint32_t>(count);
        output.rows = static_cast<uint32_t>(std::min<int64_t>(filter.rows, s.out_h() - place.y));
        output.columns = static_cast<uint32_t>(std::min(grid.columns * count, s.out_w() - place.x));
        output.epilogue.residual = ResidualAt(run.residual, s, pixel, channel);
        output.epilogue.out = OutputAt(run.y, run.output.f32, run.y_stride, pixel, channel);
        transforms.output(output);
        t += count;
      }
    }
  }
}

}  // namespace pqi::pack
