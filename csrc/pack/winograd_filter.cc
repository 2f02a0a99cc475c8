#include "pack/winograd_filter.h"

namespace pqi::pack {
namespace {

// 2 G of F(2,3), so that transformed codes are whole numbers; and B^T.
constexpr int kG[4][3] = {{2, 0, 0}, {1, 1, 1}, {1, -1, 1}, {0, 0, 2}};
constexpr int kB[4][4] = {{1, 0, -1, 0}, {0, 1, 1, 0}, {0, -1, 1, 0}, {0, 1, 0, -1}};

// V and the sums of a panel stay in L2, a position of the panel in L1. In 2-D 24 tiles are up to 5 % slower, 64 too.
constexpr WinogradFilter k1d = {4, 3, 1, 2, 1, 96};
constexpr WinogradFilter k2d = {16, 1, 2, 4, 5, 48};

// How many of a position's codes are subtracted.
int SubtractedCodes(Winograd winograd, int position) {
  int count = 0;
  if (winograd == Winograd::k1d) {
    for (int x = 0; x < 4; ++x) count += kB[position][x] < 0;
    return count;
  }
  for (int y = 0; y < 4; ++y) {
    for (int x = 0; x < 4; ++x) count += kB[position / 4][y] * kB[position % 4][x] < 0;
  }
  return count;
}

}  // namespace

const WinogradFilter& FilterOf(Winograd winograd) { return winograd == Winograd::k1d ? k1d : k2d; }

const kernels::WinogradKernels& FilterKernels(const kernels::KernelSet& set, Winograd winograd) {
  return winograd == Winograd::k1d ? set.winograd_1d : set.winograd_2d;
}

void TransformKernel(Winograd winograd, const int8_t* g, int64_t stride, int32_t* u) {
  const auto along_x = [&](int p, int y) {
    return kG[p][0] * g[y * 3 * stride] + kG[p][1] * g[(y * 3 + 1) * stride] + kG[p][2] * g[(y * 3 + 2) * stride];
  };
  if (winograd == Winograd::k1d) {
    for (int i = 0; i < 12; ++i) u[i] = along_x(i / 3, i % 3);
    return;
  }
  for (int p = 0; p < 16; ++p) {
    u[p] = 0;
    for (int y = 0; y < 3; ++y) u[p] += kG[p / 4][y] * along_x(p % 4, y);
  }
}

int WinogradOffset(Winograd winograd, int position, int qmin, int qmax) {
  const int subtracted = SubtractedCodes(winograd, position);
  return subtracted * qmax - (FilterOf(winograd).factor - subtracted) * qmin;
}

}  // namespace pqi::pack
