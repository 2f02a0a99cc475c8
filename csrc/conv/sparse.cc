// Convolutions whose weights are mostly zero: input channels become planes, and each non-zero weight costs one addition or subtraction for
// a whole vector of output positions (kernels/contract/sparse.h). Exact for all codes: sums of codes are widened before they could leave
// bytes, and shared out among rows so that 16 bits hold each.
//
// An image is computed in bands. A vector line of a band holds several rows of output positions beside each other where they fit
// (segments), so that small images fill vectors as well; rows that are longer than a line are cut into pieces.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "conv/method.h"
#include "conv/sparse_cut.h"
#include "pack/arrange.h"

namespace pqi::conv {

namespace {

using kernels::ConvShape;
using pack::At;
using pack::CeilDiv;
using pack::PieceBegin;
using pack::SparseCut;

// Only where an algorithm names it.
bool Suits(const Request&) { return false; }

void PackU8(const kernels::KernelSet&, const ConvLayout& layout, const ConvShape& shape, const pack::WeightsU8& weights, Packed* packed) {
  packed->sparse = pack::ListNonZeros(layout, layout.sparse, shape, weights, pack::StartValues(shape, weights, layout.offset).data());
  PackStartValues(layout, shape, weights, packed);
}

// Where the arrays lie in the thread's scratch memory: offsets in bytes.
struct Offsets {
  size_t bytes = 0;
  pack::SparseBlocks blocks;
  int64_t blocks_per_group;
  size_t padding;  // u8[c]: a pixel of padding
  size_t pixels;   // const uint8_t*[positions of a line]
  size_t planes;   // of all groups, block by block
  size_t sums;     // the rows of a panel
  size_t shorts, residual, tile;

  Offsets(const ConvLayout& layout, const ConvShape& s, const pack::SparseWindow& window, size_t rows)
      : blocks(window, layout.sparse), blocks_per_group(layout.sparse.blocks(s.group_inputs())) {
    const SparseCut& cut = layout.sparse;
    const size_t line = static_cast<size_t>(cut.line_positions()), nr = static_cast<size_t>(layout.tile.nr);
    const size_t row = 2 * static_cast<size_t>(cut.vectors() * cut.vector_bytes);
    padding = pack::Append(&bytes, static_cast<size_t>(s.c));
    pixels = pack::Append(&bytes, line * sizeof(const uint8_t*));
    planes = pack::Append(&bytes, static_cast<size_t>(s.groups * blocks_per_group * blocks.block));
    sums = pack::Append(&bytes, (nr * rows + 1) * row + kernels::kSparseRowsEnd + window.shifts.back());
    shorts = pack::Append(&bytes, kernels::kSparseScratchRows * kernels::SparseShortBytes(line) + kernels::kSparseRowsEnd);
    residual = pack::Append(&bytes, kernels::kSparseScratchRows * kernels::SparseShortBytes(line) + kernels::kSparseRowsEnd);
    tile = pack::Append(&bytes, kernels::SparseTileRows(line) * nr * sizeof(int32_t));
  }
};

size_t ScratchBytes(const ConvLayout& layout, const ConvShape& shape) {
  const pack::SparseWindow window(shape, layout.sparse);
  return Offsets(layout, shape, window, window.shifts.size() * static_cast<size_t>(layout.sparse.sets)).bytes;
}

Work BandWork(const ConvLayout& layout, const ConvShape& shape) {
  const ConvShape s = AsRows(shape);
  Work work = EvenWork(layout, s, Bands(s, layout.sparse).units(s));
  const double dense = static_cast<double>(s.taps() * s.group_inputs() * s.oc);
  work.macs =
      std::max<int64_t>(static_cast<int64_t>(static_cast<double>(work.macs) * static_cast<double>(layout.sparse.additions) / dense), 1);
  work.panel_bytes = layout.sparse.additions * 2 / layout.panels;
  return work;
}

// One run of the layer.
class Bander {
 public:
  Bander(const LayerU8& layer, const ConvRun<uint8_t>& run, uint8_t* memory) noexcept
      : layer_(layer),
        run_(run),
        s_(AsRows(run.shape)),
        cut_(layer.layout.sparse),
        lists_(layer.packed.sparse),
        kernels_(KernelsOfCut(layer.set, cut_.wide)),
        grid_(s_, cut_),
        at_(layer.layout, s_, lists_.window, lists_.rows()),
        memory_(memory),
        padding_(At<uint8_t>(memory, at_.padding)),
        pixels_(At<const uint8_t*>(memory, at_.pixels)) {
    std::fill(padding_, padding_ + s_.c, static_cast<uint8_t>(layer.zero_point));
  }

  void Compute(const ConvPart& part) noexcept {
    const int64_t per_group = layer_.layout.panels_per_group;
    for (int64_t unit = part.row_begin; unit < part.row_end; ++unit) {
      image_ = unit / (grid_.bands * grid_.pieces);
      y_ = unit / grid_.pieces % grid_.bands * grid_.rows;
      x_ = PieceBegin(grid_.out_w, grid_.pieces, unit % grid_.pieces);
      width_ = PieceBegin(grid_.out_w, grid_.pieces, unit % grid_.pieces + 1) - x_;
      MakePlanes(part.panel_begin / per_group, CeilDiv(part.panel_end, per_group));
      for (int64_t panel = part.panel_begin; panel < part.panel_end; ++panel) {
        Sum(panel);
        Finish(panel);
      }
    }
  }

 private:
  uint8_t* Block(int64_t group, int64_t block) const noexcept {
    return At<uint8_t>(memory_, at_.planes) + (group * at_.blocks_per_group + block) * at_.blocks.block;
  }

  void MakePlanes(int64_t first_group, int64_t last_group) noexcept {
    for (int64_t g = first_group; g < last_group; ++g) {
      for (int64_t b = 0; b < at_.blocks_per_group; ++b) std::fill_n(Block(g, b), at_.blocks.zeros, uint8_t{0});
    }
    kernels::SparsePlanes planes;
    planes.pixels = pixels_;
    planes.positions = static_cast<uint32_t>(cut_.line_positions());
    planes.plane = static_cast<size_t>(at_.blocks.plane);
    const int64_t inputs = s_.group_inputs(), lines = static_cast<int64_t>(lists_.window.lines.size());
    for (int64_t line = 0; line < lines; ++line) {
      PointToLine(lists_.window.lines[static_cast<size_t>(line)]);
      for (int64_t g = first_group; g < last_group; ++g) {
        for (int64_t b = 0; b < at_.blocks_per_group; ++b) {
          const int64_t channel = b * cut_.block_channels;
          planes.channel = static_cast<size_t>(g * inputs + channel);
          planes.channels = static_cast<uint32_t>(std::min(cut_.block_channels, inputs - channel));
          planes.planes = Block(g, b) + at_.blocks.zeros + line * cut_.line_bytes();
          kernels_.planes(planes);
        }
      }
    }
  }

  // The pixels of a line's positions.
  void PointToLine(const pack::SparseWindow::Line& line) noexcept {
    const int64_t positions = cut_.line_positions();
    int64_t j = 0;
    for (int64_t segment = 0; segment < grid_.segments; ++segment) {
      const bool last = segment + 1 == grid_.segments;
      const int64_t columns = last ? std::min(width_ + grid_.max_shift, positions - j) : grid_.pitch;
      const int64_t y = (y_ + segment * cut_.lines) * s_.stride_h + line.row - s_.pad_top;
      const int64_t x = x_ * s_.stride_w + line.column - s_.pad_left;
      int64_t begin = std::min(x < 0 ? CeilDiv(-x, s_.stride_w) : 0, columns);
      int64_t end = std::min(x < s_.w ? CeilDiv(s_.w - x, s_.stride_w) : 0, columns);
      if (y < 0 || y >= s_.h || end <= begin) begin = end = columns;
      std::fill_n(pixels_ + j, begin, padding_);
      if (begin < end) {
        const uint8_t* pixel = run_.x + ((image_ * s_.h + y) * s_.w + x + begin * s_.stride_w) * s_.c;
        for (int64_t i = begin; i < end; ++i, pixel += s_.stride_w * s_.c) pixels_[j + i] = pixel;
      }
      std::fill_n(pixels_ + j + end, columns - end, padding_);
      j += columns;
    }
    std::fill_n(pixels_ + j, positions - j, padding_);
  }

  void Sum(int64_t panel) noexcept {
    const size_t entry = static_cast<size_t>(cut_.vectors() - 1);
    kernels::SparseSums sums;
    sums.largest = cut_.wide ? uint8_t{0} : static_cast<uint8_t>(cut_.largest);
    sums.sums = At<uint8_t>(memory_, at_.sums);
    for (int64_t b = 0; b < at_.blocks_per_group; ++b) {
      const pack::SparseLists::Run& run = lists_.runs[static_cast<size_t>(panel * at_.blocks_per_group + b)];
      sums.planes = Block(panel / layer_.layout.panels_per_group, b);
      sums.offsets = lists_.offsets.data() + run.offsets;
      sums.steps = lists_.steps.data() + run.steps;
      sums.count = run.store;
      kernels_.store[entry](sums);
      sums.offsets += run.stored_offsets;
      sums.steps += run.store;
      sums.count = run.add;
      kernels_.add[entry](sums);
    }
  }

  void Finish(int64_t panel) noexcept {
    const int64_t width = layer_.layout.tile.nr, per_group = layer_.layout.panels_per_group;
    kernels::SparseOutput out;
    out.vectors = static_cast<uint32_t>(cut_.vectors());
    out.rows = static_cast<uint32_t>(lists_.rows());
    out.row = lists_.places.data();
    out.at_once = cut_.at_once;
    out.line_count = static_cast<uint32_t>(cut_.line_vectors);
    out.shorts = At<uint8_t>(memory_, at_.shorts);
    out.residual = At<uint8_t>(memory_, at_.residual);
    out.pixels = pixels_;
    out.tile = At<int32_t>(memory_, at_.tile);
    out.pitch = static_cast<uint32_t>(grid_.pitch);
    out.width = static_cast<uint32_t>(width_);
    out.segment_pixels = static_cast<size_t>(cut_.lines * grid_.out_w);
    kernels::TileU8S8& e = out.epilogue;
    e = {};
    e.step = layer_.step;
    e.output = layer_.output;
    e.out_stride = run_.y_stride;
    const int64_t first = panel % per_group * width, group = panel / per_group;
    const size_t parameter = static_cast<size_t>(panel * width);
    const int64_t channel = group * s_.group_outputs() + first;
    out.sums = At<uint8_t>(memory_, at_.sums);
    out.fill = lists_.fill.data() + parameter * (cut_.at_once ? 1 : lists_.rows());
    e.n = static_cast<uint32_t>(std::min(width, s_.group_outputs() - first));
    e.init = layer_.init() + parameter;
    e.scale = layer_.scale() + parameter;
    e.bias = layer_.bias() != nullptr ? layer_.bias() + parameter : nullptr;
    for (int64_t line = 0; line < cut_.lines && y_ + line < grid_.out_h; ++line) {
      const int64_t pixel = (image_ * grid_.out_h + y_ + line) * grid_.out_w + x_;
      out.line_vector = static_cast<uint32_t>(line * cut_.line_vectors);
      out.segments = static_cast<uint32_t>(std::min(grid_.segments, CeilDiv(grid_.out_h - y_ - line, int64_t{cut_.lines})));
      e.residual = ResidualAt(run_.residual, s_, pixel, channel);
      e.out = OutputAt(run_.y, run_.output.f32, run_.y_stride, pixel, channel);
      layer_.set.sparse_output(out);
    }
  }

  const LayerU8& layer_;
  const ConvRun<uint8_t>& run_;
  const ConvShape s_;
  const SparseCut& cut_;
  const pack::SparseLists& lists_;
  const kernels::SparseKernels& kernels_;
  const Bands grid_;
  const Offsets at_;
  uint8_t* const memory_;
  uint8_t* const padding_;
  const uint8_t** const pixels_;
  int64_t image_ = 0, y_ = 0, x_ = 0, width_ = 0;  // the unit: its image, first output row and column, columns
};

void RunU8(const LayerU8& layer, const ConvRun<uint8_t>& run, const ConvPart& part, void* scratch) noexcept {
  Bander(layer, run, static_cast<uint8_t*>(scratch)).Compute(part);
}

Words Describe(const ConvLayout& layout, int) {
  const double weights = static_cast<double>(layout.taps * layout.k) * static_cast<double>(layout.sparse.outputs);
  const double additions = static_cast<double>(layout.sparse.additions);
  char text[96];
  std::snprintf(text, sizeof text, "sparse, %.0f %% of the weights, %.0f additions per output", 100 * additions / std::max(weights, 1.0),
                additions / std::max<double>(static_cast<double>(layout.sparse.outputs), 1));
  return {"-sparse", text};
}

Span<const Alternative> ListSparse() {
  static const Alternative list[] = {{"sparse", {&kSparseMethod, nullptr, Product::kDot, 0}}};
  return {list, 1};
}

bool HasKernels(const kernels::KernelSet& set, const Algorithm&) { return set.sparse_positions > 0; }

std::string Misfit(const Request& request) {
  const ConvShape& s = request.shape;
  if (request.depthwise()) return "a depthwise layer";
  if (request.has_base()) return "its weights have a base";
  const Additions additions(s, request.codes->codes);
  const int64_t weights = s.oc * s.taps() * s.group_inputs();
  if (additions.all > weights) return std::to_string(additions.all) + " additions for " + std::to_string(weights) + " weights";
  SparseCut least;
  least.vector_bytes = request.set.sparse_positions;
  least.wide = true;
  least.sets = SparseSets(additions, request.codes->qmax);
  return Reaches(s, least) ? "" : "its window is too large";
}

Proof Prove(const Request&, const CodeRanges& ranges) {
  const int64_t step = pack::SparseStepSize(false, ranges.qmax);
  const bool wide = step < kLeastSparseStep;
  return {true, wide ? "sums of 16 bits" : std::to_string(step) + " activations to " + std::to_string(ranges.qmax) + " fit a byte", 0};
}

constexpr Alternatives kSparse = {ListSparse, HasKernels, Misfit, Prove};

}  // namespace

extern const ConvMethod kSparseMethod = {"sparse", Suits, LayoutSparse, PackU8,   nullptr, ScratchBytes,
                                         BandWork, RunU8, nullptr,      Describe, &kSparse};

}  // namespace pqi::conv
