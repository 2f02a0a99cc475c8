#include "pack/pairs.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace pqi::pack {
namespace {

using kernels::kPairLimit;

// With more extra blocks for each block the kernels without 16-bit sums are as fast.
constexpr double kMostExtras = 0.7;

// Takes from two codes of one sign what their sum has beyond the limit, at most 128 together.
bool SplitPair(int8_t* pair, int8_t* rest) {
  const int a = pair[0], b = pair[1];
  if ((a < 0) != (b < 0) || std::abs(a + b) <= kPairLimit) return false;
  const int sign = a < 0 ? -1 : 1, excess = std::abs(a + b) - kPairLimit;
  const int from_a = std::min(excess, std::abs(a)), from_b = excess - from_a;
  rest[0] = static_cast<int8_t>(sign * from_a);
  rest[1] = static_cast<int8_t>(sign * from_b);
  pair[0] = static_cast<int8_t>(a - rest[0]);
  pair[1] = static_cast<int8_t>(b - rest[1]);
  return true;
}

}  // namespace

PairExtras SplitPairs(const kernels::KernelSet& set, const PanelGrid& grid, int8_t* panels) {
  PairExtras extras;
  if (set.u8s8_pairs_mr == 0 || grid.k < 4) return extras;
  const size_t block = static_cast<size_t>(grid.tile.nr) * 4, half = block / 2, halves = 2 * static_cast<size_t>(grid.panels);
  const size_t per_tap = static_cast<size_t>((grid.k + 3) / 4), blocks = grid.panel_bytes / block;
  std::vector<int8_t> codes(panels, panels + static_cast<size_t>(grid.panels) * grid.panel_bytes), rests;
  std::vector<int8_t> rest(half);
  extras.first.push_back(0);
  for (size_t h = 0; h < halves; ++h) {
    for (size_t b = 0; b < blocks; ++b) {
      int8_t* at = codes.data() + h / 2 * grid.panel_bytes + b * block + h % 2 * half;
      std::fill(rest.begin(), rest.end(), int8_t{0});
      bool any = false;
      for (size_t i = 0; i < half; i += 2) any |= SplitPair(at + i, rest.data() + i);
      if (!any) continue;
      const int64_t k = std::min(static_cast<int64_t>(b % per_tap) * 4, grid.k - 4);  // the last block is filled from its end
      extras.at.push_back({static_cast<uint32_t>(b / per_tap), static_cast<uint32_t>(k)});
      rests.insert(rests.end(), rest.begin(), rest.end());
    }
    extras.first.push_back(extras.at.size());
  }
  if (static_cast<double>(extras.at.size()) > kMostExtras * static_cast<double>(halves * blocks)) return {};
  std::memcpy(panels, codes.data(), codes.size());
  extras.weights = AlignedBuffer<uint8_t>(rests.size());
  if (!rests.empty()) std::memcpy(extras.weights.data(), rests.data(), rests.size());
  return extras;
}

}  // namespace pqi::pack
