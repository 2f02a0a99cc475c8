#include "plan/cost.h"

#include <algorithm>
#include <cmath>

namespace pqi::plan {
namespace {

// Fitted to `kernels_bench --benchmark_filter=lowbit` (a row's time times 3.68 GHz on the Zen 4 of docs/performance.md):
//   macs           u8 x s8 multiply-adds per cycle inside a product kernel, tall tiles
//   row            cycles per row and panel outside of it: start values, epilogue
//   term           cycles of a row term per 64 bytes, and `term_row` per row
//   flush          deferred sums: cycles per row and panel whenever 16 bits are widened to 32
//   tile           Winograd, per tile and panel: sums stored and read again, output transform, epilogue of four (1-D: two) pixels
//   input          Winograd, per tile and 64 channels
struct TileCosts {
  double tile, input;
};
struct Costs {
  double dot_macs, inner_product_macs, deferred_macs;
  double row, term, term_row, flush;
  TileCosts winograd_2d, winograd_1d;
};
constexpr Costs kAvx512Vnni = {62.5, 83, 1, 10, 5, 8, 0, {185, 60}, {60, 22}};
// Two ports for 512-bit dot products, and none beside them for additions (times 3.84 GHz on the Granite Rapids of docs/performance.md).
constexpr Costs kAvx512VnniTwoPorts = {122, 77, 1, 12, 5, 8, 0, {225, 85}, {60, 22}};
constexpr Costs kAvx2 = {20.5, 1, 48, 15, 0, 0, 2.4, {170, 110}, {60, 30}};

const Costs& CostsOf(Isa isa, bool two_dot_ports) {
  if (isa != Isa::kAvx512Vnni) return kAvx2;
  return two_dot_ports ? kAvx512VnniTwoPorts : kAvx512Vnni;
}

}  // namespace

double EstimateCycles(Isa isa, bool two_dot_ports, const kernels::ConvShape& s, const pack::ConvLayout& layout) {
  const Costs& c = CostsOf(isa, two_dot_ports);
  const pack::Product product = layout.algorithm.product;
  const bool winograd = layout.method == pack::Method::kWinograd;
  const double units = static_cast<double>(pack::OutputUnits(layout, s)), taps = static_cast<double>(layout.taps);
  const double k = static_cast<double>(layout.k), nr = layout.tile.nr, groups = static_cast<double>(s.groups);
  // The plain kernels compute half a panel where no more is needed.
  const bool half = product == pack::Product::kDot && !winograd && s.group_outputs() <= layout.tile.nr / 2;
  const double panels = static_cast<double>(layout.panels), macs = taps * k * nr * (half ? 0.5 : 1.0);

  double panel_cycles = macs / c.dot_macs, row_cycles = 0;
  if (product == pack::Product::kInnerProduct) {
    panel_cycles = macs / c.inner_product_macs;
    row_cycles = (taps * std::ceil(k / 64) * c.term + c.term_row) * groups;
  } else if (product == pack::Product::kDeferred) {
    panel_cycles = macs / c.deferred_macs + taps * std::ceil(k / (4.0 * layout.algorithm.depth)) * c.flush;
  }
  if (winograd) {
    const TileCosts& t = layout.algorithm.winograd == pack::Winograd::k1d ? c.winograd_1d : c.winograd_2d;
    return units * (panels * (panel_cycles + t.tile) + std::ceil(static_cast<double>(s.c) / 64) * t.input + row_cycles);
  }
  return units * (panels * (panel_cycles + c.row) + row_cycles);
}

}  // namespace pqi::plan
