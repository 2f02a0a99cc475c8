#include "conv/sparse_cut.h"

#include <cmath>

namespace pqi::conv {
namespace {

using kernels::ConvShape;
using pack::CeilDiv;
using pack::RoundUp;
using pack::SparseCut;

// Output channels whose rows of sums are made together. Steps of many channels are sorted together, so few loops change their length.
constexpr int64_t kPanelChannels = 64;
// Bytes of the planes that one run of steps reads; L1 holds them beside the rows of sums.
constexpr int64_t kBlockBytes = 24 << 10;
// The relative time of cuts of one layer, as measured on AVX-512 (plan/cost.cc). Of two cuts that are nearly as fast, the one is better
// whose pieces threads can share evenly.
double Time(const SparseWork& w, int64_t pieces) {
  constexpr int64_t kThreads = 4;
  constexpr double kWeight = 0.1;
  const double uneven = pieces > 0 ? static_cast<double>(RoundUp(pieces, kThreads)) / static_cast<double>(pieces) : 1;
  const double time = 0.74 * w.additions + 0.59 * w.offsets + 2.6 * w.steps + 2.7 * w.step_vectors + 13 * w.planes + 63 * w.outputs;
  return time * (1 - kWeight + kWeight * uneven);
}

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

}  // namespace

bool Reaches(const ConvShape& s, const SparseCut& cut) {
  const pack::SparseWindow window(s, cut);
  const int64_t rows = kPanelChannels * static_cast<int64_t>(window.shifts.size()) * cut.sets;
  return cut.line_positions() > window.shifts.back() && rows < UINT16_MAX &&
         pack::SparseBlocks(window, cut).block <= int64_t{UINT16_MAX} * kernels::kSparseOffsetUnit;
}

void LayoutSparse(const Request& request, ConvLayout* layout) {
  const kernels::KernelSet& set = request.set;
  ConvShape s = AsRows(request.shape);
  const Additions additions(s, request.codes->codes);
  const int64_t largest = request.codes->qmax, capacity = pack::SparseCapacity(largest);
  SparseCut& cut = layout->sparse;
  cut.vector_bytes = set.sparse_positions;
  cut.wide = pack::SparseStepSize(false, largest) < kLeastSparseStep;
  cut.sets = SparseSets(additions, largest);
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
      const bool fits = Reaches(request.shape, cut);
      const double time = fits ? Time(CountSparseWork(*layout, s), Bands(s, cut).units(s) * layout->panels) : HUGE_VAL;
      if (least >= 0 && time >= least) continue;
      least = time;
      best_vectors = vectors;
      best_lines = lines;
    }
  }
  SetCut(request, best_vectors, best_lines, layout);
}

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

}  // namespace pqi::conv
