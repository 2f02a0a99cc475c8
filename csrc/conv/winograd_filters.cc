#include "kernels/generic/winograd_filters.h"

#include <array>

#include "conv/winograd_filter.h"

namespace pqi::conv {
namespace {

using kernels::KernelSet;

// Plain integers in the place of vectors: transforming images of one pixel shows what each position is made of.
struct Plain {
  using Int = int;
  static int AddBytes(int a, int b) { return a + b; }
  static int SubBytes(int a, int b) { return a - b; }
};
template <class Filter>
InputWeights WeightsOf(int position) {
  static const auto all = [] {
    std::array<InputWeights, Filter::kPositions> weights;
    for (int pixel = 0; pixel < Filter::kPixels; ++pixel) {
      Filter::Input([&](int i) { return i == pixel ? 1 : 0; },
                    [&](int p, int weight) {
                      InputWeights& w = weights[static_cast<size_t>(p)];
                      (weight < 0 ? w.subtracted : w.added) += weight < 0 ? -weight : weight;
                    });
    }
    return weights;
  }();
  return all[static_cast<size_t>(position)];
}

}  // namespace

// Tiles at a time (max_tiles): the transformed input and the sums of a panel stay in L2, one position of the panel in L1. For F(2x2,3x3) 24
// tiles are up to 5 % slower than 48, and so are 64.

const WinogradFilter kWinograd1d = {
    "winograd_1d", "-winograd1d",           "two outputs by 12 products instead of 18", {pack::TransformCodes1d, 4, 3, 1, 2}, 1, 2, 2, 96,
    true,          &KernelSet::winograd_1d, WeightsOf<kernels::Winograd1d<Plain>>};
const WinogradFilter kWinograd1d4 = {"winograd_1d4",
                                     "-winograd1d4",
                                     "four outputs by 18 products instead of 36",
                                     {pack::TransformCodes1d4, 6, 3, 1, -6},
                                     1,
                                     4,
                                     8,
                                     84,
                                     true,
                                     &KernelSet::winograd_1d4,
                                     WeightsOf<kernels::Winograd1d4<Plain>>};
const WinogradFilter kWinograd4x4 = {"winograd_4x4",
                                     "-winograd4x4",
                                     "4x4 outputs by 46 products instead of 144",
                                     {pack::TransformCodes4x4, 46, 1, 5, 16},
                                     4,
                                     4,
                                     16,
                                     24,
                                     false,
                                     &KernelSet::winograd_4x4,
                                     WeightsOf<kernels::Winograd4x4<Plain>>};
const WinogradFilter kWinograd2d = {"winograd",
                                    "-winograd",
                                    "2x2 outputs by 16 products instead of 36",
                                    {pack::TransformCodes2d, 16, 1, 5, 4},
                                    2,
                                    2,
                                    4,
                                    48,
                                    true,
                                    &KernelSet::winograd_2d,
                                    WeightsOf<kernels::Winograd2d<Plain>>};

Span<const WinogradFilter* const> AllWinogradFilters() {
  static const WinogradFilter* const all[kWinogradFilters] = {&kWinograd1d, &kWinograd1d4, &kWinograd4x4, &kWinograd2d};
  return {all, kWinogradFilters};
}

}  // namespace pqi::conv
