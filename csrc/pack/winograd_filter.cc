#include "pack/winograd_filter.h"

#include <array>

#include "kernels/generic/winograd_filters.h"

namespace pqi::pack {
namespace {

// V and the sums of a panel stay in L2, a position of the panel in L1. In 2-D 24 tiles are up to 5 % slower, 64 too.
constexpr WinogradFilter k1d = {4, 3, 1, 2, 2, 1, 2, 96};
constexpr WinogradFilter k1d4 = {6, 3, 1, 4, 8, 1, -6, 84};
constexpr WinogradFilter k2d = {16, 1, 2, 2, 4, 5, 4, 48};
constexpr WinogradFilter k4x4 = {46, 1, 4, 4, 16, 5, 16, 24};

// What a position of the transformed input is made of, by transforming images of one pixel.
struct Plain {
  using Int = int;
  static int AddBytes(int a, int b) { return a + b; }
  static int SubBytes(int a, int b) { return a - b; }
};
using Weights = std::array<InputWeights, kWinogradPositions>;
template <class Filter>
Weights WeightsOf() {
  Weights weights;
  for (int pixel = 0; pixel < Filter::kPixels; ++pixel) {
    Filter::Input([&](int i) { return i == pixel ? 1 : 0; },
                  [&](int p, int weight) {
                    InputWeights& w = weights[static_cast<size_t>(p)];
                    (weight < 0 ? w.subtracted : w.added) += weight < 0 ? -weight : weight;
                  });
  }
  return weights;
}

}  // namespace

const WinogradFilter& FilterOf(Winograd winograd) {
  switch (winograd) {
    case Winograd::k1d:
      return k1d;
    case Winograd::k1d4:
      return k1d4;
    case Winograd::k4x4:
      return k4x4;
    default:
      return k2d;
  }
}

const kernels::WinogradKernels& FilterKernels(const kernels::KernelSet& set, Winograd winograd) {
  switch (winograd) {
    case Winograd::k1d:
      return set.winograd_1d;
    case Winograd::k1d4:
      return set.winograd_1d4;
    case Winograd::k4x4:
      return set.winograd_4x4;
    default:
      return set.winograd_2d;
  }
}

InputWeights InputWeightsOf(Winograd winograd, int position) {
  static const Weights along_x = WeightsOf<kernels::Winograd1d<Plain>>(), along_x4 = WeightsOf<kernels::Winograd1d4<Plain>>(),
                       two = WeightsOf<kernels::Winograd2d<Plain>>(), four = WeightsOf<kernels::Winograd4x4<Plain>>();
  const size_t p = static_cast<size_t>(position);
  switch (winograd) {
    case Winograd::k1d:
      return along_x[p];
    case Winograd::k1d4:
      return along_x4[p];
    case Winograd::k4x4:
      return four[p];
    default:
      return two[p];
  }
}

int WinogradOffset(Winograd winograd, int position, int qmin, int qmax) {
  const InputWeights weights = InputWeightsOf(winograd, position);
  return weights.subtracted * qmax - weights.added * qmin;
}

}  // namespace pqi::pack
