#include "plan/cost.h"

#include <algorithm>
#include <cmath>

namespace pqi::plan {
namespace {

// Fitted to `kernels_bench --benchmark_filter=lowbit` (a row's time times 3.68 GHz on the Zen 4 of docs/performance.md, 3.84 GHz on the
// Granite Rapids):
//   macs           u8 x s8 multiply-adds per cycle inside a kernel, tall tiles; `direct` has the one for plain tiles, `dot` Winograd's
//   least_rows     fewer rows take as long: sums wait for each other
//   row            cycles per row and panel outside of it: start values, epilogue
//   term           cycles of a row term per 64 bytes, and `term_row` per row
//   flush          deferred sums: cycles per row and panel whenever 16 bits are widened to 32
//   tile           Winograd, per tile and panel: sums stored and read again, output transform, epilogue of four (1-D: two) pixels
//   input          Winograd, per tile and 64 channels
//   weights        bytes per cycle from L3 or memory, where a network's weights are; no layer is faster than they come, and half of
//                  that time is not hidden behind the products
struct TileCosts {
  double tile, input;
};
struct Costs {
  double direct_macs, dot_macs, inner_product_macs, deferred_macs;
  double least_rows, row, term, term_row, flush;
  TileCosts winograd_2d, winograd_1d, winograd_1d4, winograd_4x4;
  double weights;
};
// Zen 4. Those of all filters but 2-D are estimated from the other CPU's share of 2-D's, and not measured.
constexpr Costs kAvx512Vnni = {62.5, 62.5, 83, 1, 5, 10, 5, 8, 0, {185, 60}, {65, 17}, {110, 20}, {660, 200}, 16};
// Granite Rapids: two ports for 512-bit dot products, and none beside them for additions.
constexpr Costs kAvx512VnniTwoPorts = {115.5, 115.5, 85, 1, 5, 22, 5, 8, 0, {162, 116}, {56, 33}, {100, 30}, {600, 330}, 7.5};
// On the same. Plain tiles run in pairs (pack/pairs.h), the products of Winograd's transforms do not.
constexpr Costs kAvx2 = {29.5, 17, 1, 45.6, 2, 27, 0, 0, 1.65, {80, 320}, {50, 105}, {60, 100}, {240, 500}, 7.5};

constexpr double kUnhidden = 0.5;  // of the time in which weights come

const Costs& CostsOf(Isa isa, bool two_dot_ports) {
  if (isa != Isa::kAvx512Vnni) return kAvx2;
  return two_dot_ports ? kAvx512VnniTwoPorts : kAvx512Vnni;
}

double MacsPerCycle(const Costs& c, const pack::Algorithm& algorithm) {
  switch (algorithm.product) {
    case pack::Product::kInnerProduct:
      return c.inner_product_macs;
    case pack::Product::kDeferred:
      return c.deferred_macs;
    case pack::Product::kDot:
      break;
  }
  return algorithm.winograd == pack::Winograd::kNone ? c.direct_macs : c.dot_macs;
}

const TileCosts& TileCostsOf(const Costs& c, pack::Winograd winograd) {
  if (winograd == pack::Winograd::k1d) return c.winograd_1d;
  if (winograd == pack::Winograd::k1d4) return c.winograd_1d4;
  return winograd == pack::Winograd::k4x4 ? c.winograd_4x4 : c.winograd_2d;
}

}  // namespace

double EstimateCycles(Isa isa, bool two_dot_ports, const kernels::ConvShape& s, const pack::ConvLayout& layout) {
  const Costs& c = CostsOf(isa, two_dot_ports);
  const pack::Algorithm& algorithm = layout.algorithm;
  const bool winograd = algorithm.winograd != pack::Winograd::kNone;
  const double units = static_cast<double>(pack::OutputUnits(layout, s)), taps = static_cast<double>(layout.taps);
  const double k = static_cast<double>(layout.k), nr = layout.tile.nr, groups = static_cast<double>(s.groups);
  const double panels = static_cast<double>(layout.panels);
  // The plain kernels compute half of a group's last panel where no more is needed.
  const int64_t rest = s.group_outputs() % layout.tile.nr;
  const bool half = algorithm.product == pack::Product::kDot && !winograd && rest > 0 && rest <= layout.tile.nr / 2;
  const double products = taps * k * nr * (half ? panels - 0.5 * groups : panels) / MacsPerCycle(c, algorithm);

  double unit = 0;  // cycles of one beside the products
  if (algorithm.product == pack::Product::kInnerProduct) unit += (taps * std::ceil(k / 64) * c.term + c.term_row) * groups;
  if (algorithm.product == pack::Product::kDeferred) unit += panels * taps * std::ceil(k / (4.0 * algorithm.depth)) * c.flush;
  if (winograd) {
    const TileCosts& t = TileCostsOf(c, algorithm.winograd);
    unit += panels * t.tile + std::ceil(static_cast<double>(s.c) / 64) * t.input;
  } else {
    unit += panels * c.row;
  }
  const double weights = panels * static_cast<double>(layout.panel_bytes) / c.weights;
  return std::max(std::max(units, c.least_rows) * products + units * unit, weights) + kUnhidden * weights;
}

}  // namespace pqi::plan
