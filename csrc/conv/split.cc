#include "conv/split.h"

#include <algorithm>

#include "pack/arrange.h"

namespace pqi::conv {
namespace {

using pack::CeilDiv;
using pack::PieceBegin;

// A byte of input takes as long as so many bytes of weights: input that another core wrote comes line by line as the products ask for it,
// weights are asked for ahead. Measured on ResNet-50 with two
// threads on a Xeon: cutting across panels made layers slower that fetch 100 KB of input for 130 KB of weights less, and faster for 50 KB
// and 520 KB.
constexpr double kInputPerWeight = 10;

// The time of the largest piece, in multiply-accumulates, with the units cut into `down` pieces and the panels into `across`.
double Cost(const Work& w, int64_t down, int64_t across) {
  const int64_t rows = CeilDiv(CeilDiv(w.rows, w.grain), down) * w.grain, panels = CeilDiv(w.panels, across);
  const double weights = static_cast<double>(panels) * static_cast<double>(w.panel_bytes);
  const double input = static_cast<double>(rows) * static_cast<double>(w.row_bytes);
  const double of_others = static_cast<double>(across - 1) / static_cast<double>(across);  // share of the input
  return static_cast<double>(rows) * static_cast<double>(panels) * static_cast<double>(w.macs) +
         static_cast<double>(w.macs_per_byte) * (weights + kInputPerWeight * input * of_others);
}

}  // namespace

ConvPart Split(const Work& w, int parts, int index) {
  int64_t best_down = 1, best_across = 1;
  double best = -1;
  for (int64_t across = 1; across <= parts; ++across) {
    const int64_t down = parts / across;
    const double cost = Cost(w, down, across);
    if (best >= 0 && cost >= best) continue;
    best = cost;
    best_down = down;
    best_across = across;
  }
  if (index >= best_down * best_across) return {};
  const int64_t r = index / best_across, p = index % best_across, runs = CeilDiv(w.rows, w.grain);
  const auto row = [&](int64_t i) { return std::min(PieceBegin(runs, best_down, i) * w.grain, w.rows); };
  return {row(r), row(r + 1), PieceBegin(w.panels, best_across, p), PieceBegin(w.panels, best_across, p + 1)};
}

}  // namespace pqi::conv
