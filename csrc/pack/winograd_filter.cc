#include "pack/winograd_filter.h"

namespace pqi::pack {
namespace {

// One dimension: G with its rows scaled so that transformed codes are whole numbers, and B^T.
struct Matrices {
  int g[6][3], b[6][6];
};
constexpr Matrices kF2 = {{{2, 0, 0}, {1, 1, 1}, {1, -1, 1}, {0, 0, 2}}, {{1, 0, -1, 0}, {0, 1, 1, 0}, {0, -1, 1, 0}, {0, 1, 0, -1}}};
constexpr Matrices kF4 = {
    {{1, 0, 0}, {1, 1, 1}, {1, -1, 1}, {1, 2, 4}, {1, -2, 4}, {0, 0, 1}},
    {{4, 0, -5, 0, 1, 0}, {0, -4, -4, 1, 1, 0}, {0, 4, -4, -1, 1, 0}, {0, -2, -1, 2, 1, 0}, {0, 2, -1, -2, 1, 0}, {0, 4, 0, -5, 0, 1}}};

// V and the sums of a panel stay in L2, a position of the panel in L1. In 2-D 24 tiles are up to 5 % slower, 64 too.
constexpr WinogradFilter k1d = {4, 3, 1, 2, 2, 1, 2, 96};
constexpr WinogradFilter k1d4 = {6, 3, 1, 4, 8, 1, -6, 84};
constexpr WinogradFilter k2d = {16, 1, 2, 2, 4, 5, 4, 48};

}  // namespace

const WinogradFilter& FilterOf(Winograd winograd) {
  switch (winograd) {
    case Winograd::k1d:
      return k1d;
    case Winograd::k1d4:
      return k1d4;
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
    default:
      return set.winograd_2d;
  }
}

void TransformKernel(Winograd winograd, const int8_t* g, int64_t stride, int32_t* u) {
  const Matrices& m = winograd == Winograd::k1d4 ? kF4 : kF2;
  const auto along_x = [&](int p, int y) {
    return m.g[p][0] * g[y * 3 * stride] + m.g[p][1] * g[(y * 3 + 1) * stride] + m.g[p][2] * g[(y * 3 + 2) * stride];
  };
  if (winograd != Winograd::k2d) {
    for (int i = 0; i < FilterOf(winograd).positions * 3; ++i) u[i] = along_x(i / 3, i % 3);
    return;
  }
  for (int p = 0; p < 16; ++p) {
    u[p] = 0;
    for (int y = 0; y < 3; ++y) u[p] += m.g[p / 4][y] * along_x(p % 4, y);
  }
}

InputWeights InputWeightsOf(Winograd winograd, int position) {
  InputWeights weights;
  const auto add = [&](int weight) { (weight < 0 ? weights.subtracted : weights.added) += weight < 0 ? -weight : weight; };
  if (winograd == Winograd::k2d) {
    for (int i = 0; i < 16; ++i) add(kF2.b[position / 4][i / 4] * kF2.b[position % 4][i % 4]);
  } else {
    for (int weight : (winograd == Winograd::k1d4 ? kF4 : kF2).b[position]) add(weight);
  }
  return weights;
}

int WinogradOffset(Winograd winograd, int position, int qmin, int qmax) {
  const InputWeights weights = InputWeightsOf(winograd, position);
  return weights.subtracted * qmax - weights.added * qmin;
}

}  // namespace pqi::pack
