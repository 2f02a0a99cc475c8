#include "plan/cost.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "conv/method.h"
#include "conv/sparse_cut.h"
#include "conv/winograd_filter.h"

namespace pqi::plan {
namespace {

using conv::Product;

// What a filter of Winograd's adds to its products.
struct FilterCosts {
  double tile = 0;   // cycles per tile and panel: sums stored and read again, output transform, epilogue of the tile's pixels
  double input = 0;  // cycles per tile and 64 channels: input transform
};

// What each piece of a sparse layer's work costs (conv::SparseWork); cycles.
struct SparseCosts {
  double addition = std::numeric_limits<double>::infinity();  // nobody has measured it
  double offset = 0, step = 0, step_vector = 0, plane = 0, output = 0;
};

// Fitted to `kernels_bench --benchmark_filter=lowbit`: a row's time times the clock, 3.68 GHz on the Zen 4 of docs/performance.md and 3.84
// GHz on the Granite Rapids. A field that is not set belongs to kernels that the instruction set does not have.
struct Costs {
  // u8 x s8 multiply-adds per cycle inside a kernel, in tall tiles.
  double direct_macs = 0;         // plain tiles
  double dot_macs = 0;            // the plain products of Winograd's transforms
  double inner_product_macs = 0;  // inner products, plain or under a filter
  double deferred_macs = 0;       // deferred sums, plain or under a filter
  double least_rows = 0;          // fewer rows take as long as these: sums wait for each other
  double row = 0;                 // cycles per row and panel outside of the products: start values, epilogue
  double term = 0, term_row = 0;  // inner products: cycles of a row term per 64 bytes, and per row
  double flush = 0;               // deferred sums: cycles per row and panel whenever 16 bits are widened to 32
  FilterCosts winograd_1d, winograd_1d4, winograd_4x4, winograd_2d;
  SparseCosts sparse;
  double weight_bytes = 0;  // per cycle from L3 or memory, where a network's weights are
};

constexpr Costs Zen4() {
  Costs c;
  c.direct_macs = c.dot_macs = 62.5;
  c.inner_product_macs = 83;
  c.least_rows = 5;
  c.row = 10;
  c.term = 5;
  c.term_row = 8;
  c.winograd_2d = {185, 60};
  // The other filters are estimated from the other CPU's share of F(2x2,3x3), and not measured.
  c.winograd_1d = {65, 17};
  c.winograd_1d4 = {110, 20};
  c.winograd_4x4 = {660, 200};
  c.sparse = {1.1, 0.6, 3, 3, 13, 63};  // from the other CPU, with its loads at half the pace: not measured
  c.weight_bytes = 16;
  return c;
}

// Two ports for 512-bit dot products, and none beside them for additions.
constexpr Costs GraniteRapids() {
  Costs c;
  c.direct_macs = c.dot_macs = 115.5;
  c.inner_product_macs = 85;
  c.least_rows = 5;
  c.row = 22;
  c.term = 5;
  c.term_row = 8;
  c.winograd_2d = {162, 116};
  c.winograd_1d = {56, 33};
  c.winograd_1d4 = {100, 30};
  c.winograd_4x4 = {600, 330};
  c.sparse = {0.74, 0.59, 2.6, 2.7, 13, 63};
  c.weight_bytes = 7.5;
  return c;
}

// Plain tiles run in pairs (pack/pairs.h), the products of Winograd's transforms do not. Measured on the Granite Rapids.
constexpr Costs Avx2() {
  Costs c;
  c.direct_macs = 29.5;
  c.dot_macs = 17;
  c.deferred_macs = 45.6;
  c.least_rows = 2;
  c.row = 27;
  c.flush = 1.65;
  c.winograd_2d = {80, 320};
  c.winograd_1d = {50, 105};
  c.winograd_1d4 = {60, 100};
  c.winograd_4x4 = {240, 500};
  c.sparse = {0.63, 0.23, 0.3, 2.6, 7.2, 36};
  c.weight_bytes = 7.5;
  return c;
}

// Layers that run on matrix registers, on the Granite Rapids. Beside them only sparse sums are worth a thought.
constexpr Costs GraniteRapidsMatrix() {
  Costs c = GraniteRapids();
  c.direct_macs = 520;
  c.row = 12;
  return c;
}

constexpr Costs kZen4 = Zen4(), kGraniteRapids = GraniteRapids(), kAvx2 = Avx2(), kMatrix = GraniteRapidsMatrix();

// The share of the time in which weights come that products do not hide.
constexpr double kUnhidden = 0.5;

const Costs& CostsOf(Isa isa, bool two_dot_ports, const conv::ConvMethod* method) {
  if (isa == Isa::kAvx2) return kAvx2;
  if (method == &conv::kMatrixMethod) return kMatrix;
  return two_dot_ports ? kGraniteRapids : kZen4;
}

double MacsPerCycle(const Costs& c, const conv::Algorithm& algorithm) {
  switch (algorithm.product) {
    case Product::kInnerProduct:
      return c.inner_product_macs;
    case Product::kDeferred:
      return c.deferred_macs;
    case Product::kDot:
      break;
  }
  return algorithm.filter == nullptr ? c.direct_macs : c.dot_macs;
}

struct FilterRow {
  const conv::WinogradFilter* filter;
  FilterCosts Costs::* costs;
};
constexpr FilterRow kFilters[] = {{&conv::kWinograd1d, &Costs::winograd_1d},
                                  {&conv::kWinograd1d4, &Costs::winograd_1d4},
                                  {&conv::kWinograd4x4, &Costs::winograd_4x4},
                                  {&conv::kWinograd2d, &Costs::winograd_2d}};

// Infinite where nobody has measured the filter.
FilterCosts CostsOf(const Costs& c, const conv::WinogradFilter* filter) {
  for (const FilterRow& row : kFilters) {
    if (row.filter == filter) return c.*row.costs;
  }
  return {std::numeric_limits<double>::infinity(), 0};
}

double SparseCycles(const SparseCosts& c, const conv::SparseWork& w) {
  return c.addition * w.additions + c.offset * w.offsets + c.step * w.steps + c.step_vector * w.step_vectors + c.plane * w.planes +
         c.output * w.outputs;
}

}  // namespace

double EstimateCycles(Isa isa, bool two_dot_ports, const kernels::ConvShape& s, const conv::ConvLayout& layout) {
  const Costs& c = CostsOf(isa, two_dot_ports, layout.method);
  if (layout.method == &conv::kSparseMethod) return SparseCycles(c.sparse, conv::CountSparseWork(layout, s));
  const conv::Algorithm& algorithm = layout.algorithm;
  const bool winograd = algorithm.filter != nullptr;
  // Methods that share out whole rows of the image still compute pixels.
  const double units = static_cast<double>(winograd ? layout.method->work(layout, s).rows : s.rows()),
               taps = static_cast<double>(layout.taps);
  const double k = static_cast<double>(layout.k), nr = layout.tile.nr, groups = static_cast<double>(s.groups);
  const double panels = static_cast<double>(layout.panels);
  // The plain kernels compute half of a group's last panel where no more is needed.
  const int64_t rest = s.group_outputs() % layout.tile.nr;
  const bool half = algorithm.product == Product::kDot && !winograd && rest > 0 && rest <= layout.tile.nr / 2;
  const double products = taps * k * nr * (half ? panels - 0.5 * groups : panels) / MacsPerCycle(c, algorithm);

  double unit = 0;  // cycles of one unit beside its products
  if (algorithm.product == Product::kInnerProduct) unit += (taps * std::ceil(k / 64) * c.term + c.term_row) * groups;
  if (algorithm.product == Product::kDeferred) unit += panels * taps * std::ceil(k / (4.0 * algorithm.depth)) * c.flush;
  if (winograd) {
    const FilterCosts filter = CostsOf(c, algorithm.filter);
    unit += panels * filter.tile + std::ceil(static_cast<double>(s.c) / 64) * filter.input;
  } else {
    unit += panels * c.row;
  }
  const double weights = panels * static_cast<double>(layout.panel_bytes) / c.weight_bytes;
  // No layer is faster than its weights come.
  return std::max(std::max(units, c.least_rows) * products + units * unit, weights) + kUnhidden * weights;
}

}  // namespace pqi::plan
