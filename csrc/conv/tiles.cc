// Tile kernels that read windows through pointers: no im2col, and no padded copy of the image.
//
// Three methods differ in how a window is read (Windows, conv/layout.h): one pointer per tap, one per kernel row, or one to a copy of it.
#include <algorithm>

#include "conv/tile_calls.h"
#include "conv/tiling.h"

namespace pqi::conv {
namespace {

using kernels::ConvShape;

// Longer runs gain nothing over single taps, and would make copies of border windows costly.
constexpr int64_t kRunBytes = 512;
// Pointers and copied windows of a block stay in L1 and L2 beside the panel.
constexpr int64_t kBlockRows = 240, kBlockPointers = 4096, kBlockCopyBytes = 1 << 16;

bool SuitsRuns(const Request& request) {
  const ConvShape& s = request.shape;
  const int64_t kr = request.tile().kr;
  const bool neighbours = s.groups == 1 && s.dilation_w == 1 && s.kw > 1;
  // With few channels a run wastes less than copying windows costs.
  const bool dense = s.c % kr == 0 || (FewChannels(s) && s.kw * s.c >= kr);
  return neighbours && dense && s.kw * s.c * request.element_bytes() <= kRunBytes;
}

bool SuitsGather(const Request& request) { return request.shape.taps() > 1 && FewChannels(request.shape); }

bool SuitsTiles(const Request&) { return true; }

void Layout(const Request& request, ConvLayout* layout) {
  const ConvShape& s = request.shape;
  if (request.direct() && request.codes != nullptr) layout->offset = request.set.u8s8_offset;
  pack::CutPanels(s, request.element_bytes(), layout);
  int64_t rows = std::min(kBlockRows, kBlockPointers / layout->taps);
  if (layout->windows == Windows::kCopies) rows = std::min(rows, kBlockCopyBytes / (layout->k * request.element_bytes()));
  layout->block_rows = std::max<int64_t>(rows, layout->tile.mr);
}

void LayoutRuns(const Request& request, ConvLayout* layout) {
  layout->windows = Windows::kRuns;
  layout->k *= request.shape.kw;
  layout->taps = request.shape.kh;
  Layout(request, layout);
}

void LayoutGather(const Request& request, ConvLayout* layout) {
  layout->windows = Windows::kCopies;
  layout->k *= layout->taps;
  layout->taps = 1;
  Layout(request, layout);
}

// Inner products multiply shifted codes, and their sums start lower by what that adds to every row.
void PackShifted(const ConvLayout& layout, const ConvShape& s, const pack::WeightsU8& weights, Packed* packed) {
  const int64_t per_channel = s.taps() * s.group_inputs();
  AlignedBuffer<int8_t> codes(static_cast<size_t>(s.oc * per_channel));
  std::copy(weights.codes, weights.codes + codes.size(), codes.data());
  const int least = std::min<int>(*std::min_element(codes.begin(), codes.end()), 0);
  packed->least[0] = static_cast<int8_t>(least);
  AlignedBuffer<int32_t> init = pack::StartValues(s, weights, layout.offset);
  for (int64_t c = 0; c < s.oc; ++c) {
    const uint32_t products = pack::ShiftCodes(codes.data() + c * per_channel, per_channel, least);
    init[static_cast<size_t>(c)] = static_cast<int32_t>(static_cast<uint32_t>(init[static_cast<size_t>(c)]) - products);
  }
  pack::PackPanels(layout, s, codes.data(), reinterpret_cast<int8_t*>(packed->buffer.data() + layout.weights));
  pack::PackChannels(layout, s, init.data(), packed->buffer.data() + layout.init);
}

void PackU8(const kernels::KernelSet& set, const ConvLayout& layout, const ConvShape& shape, const pack::WeightsU8& weights,
            Packed* packed) {
  if (layout.algorithm.product == Product::kInnerProduct) return PackShifted(layout, shape, weights, packed);
  PackTilePanels(set, layout, shape, weights.codes, packed);
  PackStartValues(layout, shape, weights, packed);
}

void PackF32(const ConvLayout& layout, const ConvShape& shape, const pack::WeightsF32& weights, uint8_t* buffer) {
  pack::PackPanels(layout, shape, weights.weights, reinterpret_cast<float*>(buffer + layout.weights));
}

size_t ScratchBytes(const ConvLayout& layout, const ConvShape& shape) {
  return layout.element_bytes == 1 ? TileScratch<uint8_t>(layout, shape).bytes : TileScratch<float>(layout, shape).bytes;
}

void RunU8(const LayerU8& layer, const ConvRun<uint8_t>& run, const ConvPart& part, void* scratch) noexcept {
  TileCallsU8 calls(layer, run, part);
  const auto row_values = [&](const uint8_t* const* a, int64_t m, int32_t* box, int32_t* terms) { calls.RowValues(a, m, box, terms); };
  ForEachTile(layer.layout, run, part, calls.mr(), static_cast<uint8_t>(layer.zero_point), scratch, row_values,
              [&](const Tile<uint8_t>& tile) { calls(tile); });
}

void RunF32(const LayerF32& layer, const ConvRun<float>& run, const ConvPart& part, void* scratch) noexcept {
  TileCallsF32 calls(layer, run);
  const auto no_values = [](const float* const*, int64_t, int32_t*, int32_t*) {};
  ForEachTile(layer.layout, run, part, calls.mr(), 0.0f, scratch, no_values, [&](const Tile<float>& tile) { calls(tile); });
}

std::string TileWords(const ConvLayout& layout, int tile_rows) {
  return "tiles of " + std::to_string(tile_rows) + " pixels by " + std::to_string(layout.tile.nr) + " channels";
}
Words DescribeTiles(const ConvLayout& layout, int tile_rows) { return {"", TileWords(layout, tile_rows)}; }
Words DescribeRuns(const ConvLayout& layout, int tile_rows) {
  return {"", TileWords(layout, tile_rows) + ", each kernel row read as one run"};
}
Words DescribeGather(const ConvLayout& layout, int) {
  return {"-gather", "few channels per tap: windows are copied into rows of " + std::to_string(layout.k)};
}

// Other ways to multiply, whichever of the three methods the windows take.
Span<const Alternative> ListProducts() {
  static const std::vector<Alternative> list = [] {
    std::vector<Alternative> out;
    for (const ProductWay& way : kProductWays) {
      if (way.product != Product::kDot) out.push_back({way.name, {nullptr, nullptr, way.product, 1}});
    }
    return out;
  }();
  return list;
}

bool HasKernels(const kernels::KernelSet& set, const Algorithm& algorithm) { return KernelsOf(set, algorithm.product).shape.mr > 0; }

std::string Misfit(const Request& request) {
  if (request.depthwise()) return "a depthwise layer";
  if (request.algorithm.product != Product::kInnerProduct) return "";
  return InnerProductMisfit(LayoutConvU8(request.set, request.shape, *request.codes, request.algorithm).k);
}

Proof Prove(const Request& request, const CodeRanges& ranges) { return ProveProduct(ranges, request.algorithm.product); }

constexpr Alternatives kOtherProducts = {ListProducts, HasKernels, Misfit, Prove};

}  // namespace

extern const ConvMethod kRunsMethod = {"runs",    SuitsRuns, LayoutRuns, PackU8,       PackF32, ScratchBytes,
                                       PixelWork, RunU8,     RunF32,     DescribeRuns, nullptr};
extern const ConvMethod kGatherMethod = {"gather",  SuitsGather, LayoutGather, PackU8,         PackF32, ScratchBytes,
                                         PixelWork, RunU8,       RunF32,       DescribeGather, nullptr};
extern const ConvMethod kTilesMethod = {"tiles",   SuitsTiles, Layout, PackU8,        PackF32,        ScratchBytes,
                                        PixelWork, RunU8,      RunF32, DescribeTiles, &kOtherProducts};

}  // namespace pqi::conv
