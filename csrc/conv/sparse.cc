// Convolutions whose weights are mostly zero: input channels become planes, and each non-zero weight costs one addition or subtraction for
// a whole vector of output positions (kernels/contract/sparse.h). Exact for all codes: sums of codes are widened before they could leave
// bytes, and shared out among rows so that 16 bits hold each.
//
// An image is computed in bands. A vector line of a band holds several rows of output positions beside each other where they fit
// (segments), so that small images fill vectors as well; rows that are longer than a line are cut into pieces.
#include "conv/sparse.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "conv/method.h"
#include "pack/arrange.h"

namespace pqi::conv {

extern const ConvMethod kSparseMethod;

namespace {

using kernels::ConvShape;
using pack::At;
using pack::CeilDiv;
using pack::PieceBegin;
using pack::RoundUp;
using pack::SparseCut;

// Output channels whose rows of sums are made together. Steps of many channels are sorted together, so few loops change their length.
constexpr int64_t kPanelChannels = 64;
// Bytes of the planes that one run of steps reads; L1 holds them beside the rows of sums.
constexpr int64_t kBlockBytes = 24 << 10;
// Bytes need the fifth addition before they are widened: with fewer, positions of 16 bits are as fast.
constexpr int64_t kLeastStep = 5;
constexpr int64_t kMostBlockBytes = 65535 * kernels::kSparseOffsetUnit / 2;

// Every pixel of a pointwise layer is a position of one long row.
ConvShape AsRows(const ConvShape& s) {
  if (!s.pointwise()) return s;
  ConvShape rows = s;
  rows.w = s.n * s.h * s.w;
  rows.n = rows.h = 1;
  return rows;
}

const kernels::SparseKernels& KernelsOfCut(const kernels::KernelSet& set, bool wide) { return wide ? set.sparse_wide : set.sparse_bytes; }

// How an image lies in bands.
struct Bands {
  int64_t out_h, out_w, max_shift;
  int64_t segments, pitch, rows;  // segments of a line, positions from one to the next, output rows of a band
  int64_t pieces, bands;          // of an output row, of an image

  Bands(const ConvShape& s, const SparseCut& cut) : out_h(s.out_h()), out_w(s.out_w()), max_shift((s.kw - 1) * s.dilation_w / s.stride_w) {
    const int64_t line = cut.line_positions(), columns = out_w + max_shift;
    segments = 1;
    pitch = std::max<int64_t>(columns - SharedColumns(s), 1);
    pieces = columns <= line ? 1 : CeilDiv(out_w, line - max_shift);
    if (pieces == 1) segments = std::min(1 + (line - columns) / pitch, CeilDiv(out_h, int64_t{cut.lines}));
    rows = segments * cut.lines;
    bands = CeilDiv(out_h, rows);
  }
  int64_t units(const ConvShape& s) const { return out_w > 0 ? s.n * bands * pieces : 0; }

 private:
  // Columns at the end of a segment that hold nothing but padding may be those at the beginning of the next one.
  int64_t SharedColumns(const ConvShape& s) const {
    const int64_t left = s.pad_left / s.stride_w;
    const int64_t right = out_w + max_shift - CeilDiv(s.w + s.pad_left, s.stride_w);
    return std::max<int64_t>(std::min({left, right, max_shift}), 0);
  }
};

// What the layout needs to know of the codes.
struct Additions {
  int64_t all = 0;
  // The most that one channel and column of taps, or one channel, has of additions or of subtractions, and one channel of both.
  int64_t of_row = 0, of_channel = 0, of_both = 0;

  explicit Additions(const ConvShape& s, const int8_t* codes) {
    for (int64_t o = 0; o < s.oc; ++o) {
      int64_t channel[2] = {0, 0};
      for (int64_t x = 0; x < s.kw; ++x) {
        int64_t row[2] = {0, 0};
        for (int64_t y = 0; y < s.kh; ++y) {
          const int8_t* w = codes + ((o * s.kh + y) * s.kw + x) * s.group_inputs();
          for (int64_t c = 0; c < s.group_inputs(); ++c) row[w[c] < 0] += std::abs(w[c]);
        }
        of_row = std::max({of_row, row[0], row[1]});
        channel[0] += row[0];
        channel[1] += row[1];
      }
      of_channel = std::max({of_channel, channel[0], channel[1]});
      of_both = std::max(of_both, channel[0] + channel[1]);
      all += channel[0] + channel[1];
    }
  }
};

// The relative time of cuts of one layer, as measured on AVX-512 (plan/cost.cc). Of two cuts that are nearly as fast, the one is better
// whose pieces threads can share evenly.
double Time(const SparseWork& w, int64_t pieces) {
  constexpr int64_t kThreads = 4;
  constexpr double kWeight = 0.1;
  const double uneven = pieces > 0 ? static_cast<double>(RoundUp(pieces, kThreads)) / static_cast<double>(pieces) : 1;
  const double time = 0.74 * w.additions + 0.59 * w.offsets + 2.6 * w.steps + 2.7 * w.step_vectors + 13 * w.planes + 63 * w.outputs;
  return time * (1 - kWeight + kWeight * uneven);
}

// Only where an algorithm names it.
bool Suits(const Request&) { return false; }

void SetCut(const Request& request, int32_t line_vectors, int32_t lines, ConvLayout* layout) {
  SparseCut& cut = layout->sparse;
  cut.line_vectors = line_vectors;
  cut.lines = lines;
  const pack::SparseWindow window(request.shape, cut);
  const int64_t plane = std::max<int64_t>(window.plane_bytes(cut), 1);
  const int64_t fit = std::max<int64_t>(kBlockBytes / plane / kernels::kSparseChannels, 1) * kernels::kSparseChannels;
  // Blocks of equal size, whole steps of channels.
  const int64_t inputs = request.shape.group_inputs();
  cut.block_channels = RoundUp(CeilDiv(inputs, CeilDiv(inputs, fit)), kernels::kSparseChannels);
}

// n, h and w of the shape are those that the layer will mostly see: lists are made for one way to cut planes, which any image can be put
// into.
void Layout(const Request& request, ConvLayout* layout) {
  const kernels::KernelSet& set = request.set;
  ConvShape s = AsRows(request.shape);
  const Additions additions(s, request.codes->codes);
  const int64_t largest = request.codes->qmax, capacity = pack::SparseCapacity(largest);
  SparseCut& cut = layout->sparse;
  cut.vector_bytes = set.sparse_positions;
  cut.wide = pack::SparseStepSize(false, largest) < kLeastStep;
  cut.sets = static_cast<int32_t>(std::max<int64_t>(CeilDiv(additions.of_row, capacity), 1));
  // Without a zero point additions and subtractions lead to either side of 0; with one, each code does by its distance from it.
  const int64_t zero_point = request.codes->zero_point, reach = std::max(zero_point, largest - zero_point);
  cut.at_once = zero_point == 0 ? additions.of_channel <= capacity : additions.of_both <= pack::SparseCapacity(reach);
  cut.largest = request.codes->qmax;
  cut.additions = additions.all;
  cut.outputs = s.oc;
  layout->tile.nr = static_cast<int>(std::min<int64_t>(kPanelChannels, RoundUp(s.group_outputs(), set.u8s8.nr)));
  pack::CutPanels(s, 1, layout);
  layout->panel_bytes = 0;
  constexpr int64_t kUnknown = 56;
  if (s.out_h() < 1) s.h = kUnknown + s.dilation_h * (s.kh - 1);
  if (s.out_w() < 1) s.w = kUnknown + s.dilation_w * (s.kw - 1);
  const int most = KernelsOfCut(set, cut.wide).vectors;
  double least = -1;
  int32_t best_vectors = 1, best_lines = 1;
  for (int32_t vectors = 1; vectors <= most; ++vectors) {
    for (int32_t lines = 1; lines * vectors <= most; ++lines) {
      SetCut(request, vectors, lines, layout);
      const bool fits = cut.line_positions() > (s.kw - 1) * s.dilation_w / s.stride_w;
      const double time = fits ? Time(CountSparseWork(*layout, s), Bands(s, cut).units(s) * layout->panels) : HUGE_VAL;
      if (least >= 0 && time >= least) continue;
      least = time;
      best_vectors = vectors;
      best_lines = lines;
    }
  }
  SetCut(request, best_vectors, best_lines, layout);
}

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
  // Every thread makes the planes of its units.
  work.row_bytes *= 4;
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
  static const Alternative list[] = {{"sparse", SparseAlgorithm()}};
  return {list, 1};
}

bool HasKernels(const kernels::KernelSet& set, const Algorithm&) { return set.sparse_positions > 0; }

std::string Misfit(const Request& request) {
  const ConvShape& s = request.shape;
  if (request.depthwise()) return "a depthwise layer";
  if (request.has_base()) return "its weights have a base";
  const int64_t weights = s.oc * s.taps() * s.group_inputs(), additions = Additions(s, request.codes->codes).all;
  if (additions > weights) return std::to_string(additions) + " additions for " + std::to_string(weights) + " weights";
  const int64_t line = int64_t{request.set.sparse_positions} * 2;
  const int64_t lines = ((s.kh - 1) * s.dilation_h + 1) * s.stride_w + kernels::kMaxSparseVectors;
  if (lines * line * kernels::kSparseChannels > kMostBlockBytes || (s.kw - 1) * s.dilation_w / s.stride_w >= request.set.sparse_positions) {
    return "its window is too large";
  }
  return "";
}

Proof Prove(const Request&, const CodeRanges& ranges) {
  const int64_t step = pack::SparseStepSize(false, ranges.qmax);
  const bool wide = step < kLeastStep;
  return {true, wide ? "sums of 16 bits" : std::to_string(step) + " activations to " + std::to_string(ranges.qmax) + " fit a byte", 0};
}

constexpr Alternatives kSparse = {ListSparse, HasKernels, Misfit, Prove};

}  // namespace

Algorithm SparseAlgorithm() { return {&kSparseMethod, nullptr, Product::kDot, 0}; }

SparseWork CountSparseWork(const ConvLayout& layout, const ConvShape& shape) {
  const ConvShape s = AsRows(shape);
  const SparseCut& cut = layout.sparse;
  const pack::SparseWindow window(s, cut);
  const double units = static_cast<double>(Bands(s, cut).units(s)), vectors = cut.vectors(), registers = cut.wide ? 2 : 1;
  const double rows = static_cast<double>(s.oc) * static_cast<double>(window.shifts.size()) * cut.sets;
  const double blocks = static_cast<double>(cut.blocks(s.group_inputs()));
  const double non_zeros = static_cast<double>(cut.additions) / (rows * blocks);  // of a row in a block
  const double step_size = static_cast<double>(pack::SparseStepSize(cut.wide, cut.largest));
  // The numbers vary from row to row, so the last step of a row is half full on average.
  const double steps = rows * (blocks - 1) * std::max(non_zeros / step_size + 0.5, std::min(1.0, non_zeros)) +
                       rows * std::max(non_zeros / step_size + 0.5, 1.0);
  SparseWork w;
  w.offsets = units * static_cast<double>(cut.additions);
  w.additions = w.offsets * vectors * registers;
  w.steps = units * steps;
  w.step_vectors = w.steps * vectors;
  w.planes = units * static_cast<double>(window.lines.size()) * cut.line_vectors * registers * static_cast<double>(s.groups) *
             static_cast<double>(RoundUp(s.group_inputs(), kernels::kSparseChannels));
  w.outputs = units * vectors * static_cast<double>(s.oc);
  return w;
}

extern const ConvMethod kSparseMethod = {"sparse", Suits, Layout,  PackU8,   nullptr, ScratchBytes,
                                         BandWork, RunU8, nullptr, Describe, &kSparse};

}  // namespace pqi::conv
