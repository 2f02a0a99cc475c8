// Winograd's convolutions: tiles of the input are transformed, multiplied position by position by transformed weights, and the sums are
// transformed into outputs. Exact for codes of few bits only (conv/exact.h).
#include <algorithm>
#include <vector>

#include "conv/ahead.h"
#include "conv/exact.h"
#include "conv/method.h"
#include "conv/winograd_filter.h"
#include "conv/winograd_input.h"
#include "pack/arrange.h"
#include "pack/winograd_codes.h"

namespace pqi::conv {

namespace {

using kernels::ConvShape;
using pack::At;
using pack::CeilDiv;
using pack::PieceBegin;

// Where the arrays of a block of tiles lie in the thread's scratch memory: offsets in bytes.
struct Offsets {
  size_t bytes = 0;
  TransformedLayout input;
  size_t sums;       // int32[positions][tiles][nr]
  size_t terms;      // int32[positions][tiles], for inner products
  size_t sum_plane;  // elements from position to position

  // A cache line between planes keeps the sums of a tile in different sets of L1.
  Offsets(const ConvLayout& layout, const ConvShape& s) : input(layout, s, &bytes) {
    const size_t positions = static_cast<size_t>(layout.algorithm.filter->positions()), tiles = static_cast<size_t>(layout.block_rows);
    sum_plane = tiles * static_cast<size_t>(layout.tile.nr) + kAlignment / sizeof(int32_t);
    sums = pack::Append(&bytes, positions * sum_plane * sizeof(int32_t));
    terms = pack::Append(&bytes, positions * tiles * sizeof(int32_t));
  }
};

// Only where an algorithm names it.
bool Suits(const Request& request) { return request.algorithm.filter != nullptr; }

void Layout(const Request& request, ConvLayout* layout) {
  const WinogradFilter& filter = *request.algorithm.filter;
  layout->k = pack::RoundUp(request.shape.c, layout->tile.kr);
  layout->taps = filter.positions() * filter.taps();
  layout->starts = filter.positions();
  layout->block_rows = filter.max_tiles;
  pack::CutPanels(request.shape, 1, layout);
}

void PackU8(const kernels::KernelSet&, const ConvLayout& layout, const ConvShape& s, const pack::WeightsU8& weights, Packed* packed) {
  const WinogradFilter& filter = *layout.algorithm.filter;
  int offset[pack::kMostPositions];
  for (int p = 0; p < filter.positions(); ++p) {
    offset[p] = filter.Offset(p, weights.qmin, weights.qmax);
    packed->raised[static_cast<size_t>(p)] = static_cast<uint8_t>(offset[p]);
  }
  uint8_t* buffer = packed->buffer.data();
  const AlignedBuffer<int32_t> start = pack::StartValues(s, weights, layout.offset);
  const AlignedBuffer<int8_t> codes =
      pack::TransformCodes(filter.codes, offset, layout.algorithm.product == Product::kInnerProduct, layout, s, weights, start.data(),
                           &packed->least, reinterpret_cast<int32_t*>(buffer + layout.init));
  pack::PackPanels(layout, s, codes.data(), reinterpret_cast<int8_t*>(buffer + layout.weights));
}

size_t ScratchBytes(const ConvLayout& layout, const ConvShape& shape) { return Offsets(layout, shape).bytes; }

// Units are tiles. Every thread transforms the input of its tiles; a filter along rows transforms image rows as a whole.
Work TileWork(const ConvLayout& layout, const ConvShape& s) {
  const WinogradFilter& filter = *layout.algorithm.filter;
  const TileGrid grid(filter, s);
  Work work = EvenWork(layout, s, s.n * grid.down * grid.across);
  work.row_bytes = filter.positions() * s.c;
  if (filter.taps() > 1) work.grain = grid.across;
  return work;
}

void RunU8(const LayerU8& layer, const ConvRun<uint8_t>& run, const ConvPart& part, void* scratch) noexcept {
  const ConvShape& s = run.shape;
  const ConvLayout& layout = layer.layout;
  const WinogradFilter& filter = *layout.algorithm.filter;
  const Offsets offsets(layout, s);
  const TileGrid grid(filter, s);
  uint8_t* memory = static_cast<uint8_t*>(scratch);
  TransformedInput input(layer, offsets.input, run, memory);
  int32_t* sums = At<int32_t>(memory, offsets.sums);
  int32_t* terms = At<int32_t>(memory, offsets.terms);
  const bool inner_product = layout.algorithm.product == Product::kInnerProduct;
  const kernels::U8S8Kernels& kernels = KernelsOf(layer.set, layout.algorithm.product);
  const kernels::WinogradKernels& transforms = layer.set.*filter.kernels;
  const int64_t positions = filter.positions();
  const uint32_t taps = static_cast<uint32_t>(filter.taps()), k = static_cast<uint32_t>(layout.k);
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
        for (int64_t p = 0; p < positions; ++p) {
          layer.set.row_terms({input.Rows(t), static_cast<size_t>(p) * offsets.input.plane, taps, k, static_cast<uint32_t>(m),
                               layer.packed.least[static_cast<size_t>(p)], terms + p * block + t});
        }
      }
    }
    for (int64_t panel = part.panel_begin; panel < part.panel_end; ++panel) {
      const size_t at = static_cast<size_t>(panel);
      const int8_t* weights = layer.weights() + at * layout.panel_bytes;
      const int32_t* init = layer.init() + at * static_cast<size_t>(positions) * nr;
      for (int64_t p = 0; p < positions; ++p) {
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
      output.epilogue.scale = layer.scale() + channel;
      output.epilogue.bias = layout.has_bias ? layer.bias() + channel : nullptr;
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

Words Describe(const ConvLayout& layout, int) { return {layout.algorithm.filter->suffix, layout.algorithm.filter->products}; }

// Every filter with every product.
Span<const Alternative> ListFilters() {
  static const std::vector<Alternative> list = [] {
    std::vector<Alternative> out;
    for (const WinogradFilter* filter : AllWinogradFilters()) {
      for (const ProductWay& way : kProductWays) {
        if (way.product == Product::kInnerProduct && !filter->inner_products) continue;
        const std::string suffix = way.product == Product::kDot ? "" : std::string("_") + way.name;
        out.push_back({filter->name + suffix, {&kWinogradMethod, filter, way.product, 0}});
      }
    }
    return out;
  }();
  return list;
}

bool HasKernels(const kernels::KernelSet& set, const Algorithm& algorithm) {
  return (set.*algorithm.filter->kernels).input != nullptr && KernelsOf(set, algorithm.product).shape.mr > 0;
}

std::string Misfit(const Request& request) {
  if (request.depthwise()) return "a depthwise layer";
  if (!HasWinogradShape(request.shape)) return "not 3x3 with stride 1, dilation 1 and one group";
  if (request.has_base()) return "weights with a base need the sums of whole windows";
  return request.algorithm.product == Product::kInnerProduct ? InnerProductMisfit(request.shape.c) : "";
}

Proof Prove(const Request& request, const CodeRanges& ranges) {
  return ProveFilter(ranges, *request.algorithm.filter, request.algorithm.product);
}

constexpr Alternatives kFilters = {ListFilters, HasKernels, Misfit, Prove};

}  // namespace

extern const ConvMethod kWinogradMethod = {"winograd", Suits, Layout,  PackU8,   nullptr,  ScratchBytes,
                                           TileWork,   RunU8, nullptr, Describe, &kFilters};

}  // namespace pqi::conv
