#include "pack/low_bit.h"

#include <algorithm>

namespace pqi::pack {
namespace {

// 2 G of F(2,3), so that 4 G g G^T has whole numbers; and B^T.
constexpr int kG[4][3] = {{2, 0, 0}, {1, 1, 1}, {1, -1, 1}, {0, 0, 2}};
constexpr int kB[4][4] = {{1, 0, -1, 0}, {0, 1, 1, 0}, {0, -1, 1, 0}, {0, 1, 0, -1}};
// The position that enters all four outputs with a plus sign: what is added four times there is added once to every sum.
constexpr int kCommonPosition = 5;

}  // namespace

void TransformKernel(const int8_t* g, int64_t stride, int32_t* u) {
  for (int p = 0; p < kWinogradPositions; ++p) {
    int32_t sum = 0;
    for (int y = 0; y < 3; ++y) {
      for (int x = 0; x < 3; ++x) sum += kG[p / 4][y] * kG[p % 4][x] * g[(y * 3 + x) * stride];
    }
    u[p] = sum;
  }
}

int SubtractedCodes(int position) {
  int count = 0;
  for (int y = 0; y < 4; ++y) {
    for (int x = 0; x < 4; ++x) count += kB[position / 4][y] * kB[position % 4][x] < 0;
  }
  return count;
}

AlignedBuffer<int8_t> TransformCodes(const ConvLayout& layout, const kernels::ConvShape& s, const WeightsU8& weights, const int32_t* start,
                                     LeastCodes* least, void* init) {
  const int64_t k = layout.k, nr = layout.tile.nr;
  AlignedBuffer<int8_t> codes(static_cast<size_t>(s.oc * kWinogradPositions * k));
  least->fill(0);
  for (int64_t o = 0; o < s.oc; ++o) {
    for (int64_t c = 0; c < s.c; ++c) {
      int32_t u[kWinogradPositions];
      TransformKernel(weights.codes + o * 9 * s.c + c, s.c, u);
      for (int p = 0; p < kWinogradPositions; ++p) {
        codes[static_cast<size_t>((o * kWinogradPositions + p) * k + c)] = static_cast<int8_t>(u[p]);
        (*least)[static_cast<size_t>(p)] = std::min((*least)[static_cast<size_t>(p)], static_cast<int8_t>(u[p]));
      }
    }
  }
  int32_t* out = static_cast<int32_t*>(init);
  for (int64_t o = 0; o < s.oc; ++o) {
    for (int p = 0; p < kWinogradPositions; ++p) {
      int8_t* row = codes.data() + (o * kWinogradPositions + p) * k;
      uint32_t sum = 0, value = p == kCommonPosition ? 4u * static_cast<uint32_t>(start[o]) : 0u;
      for (int64_t c = 0; c < k; ++c) sum += static_cast<uint32_t>(row[c]);
      value -= static_cast<uint32_t>(WinogradOffset(p, weights.qmin, weights.qmax)) * sum;
      if (layout.algorithm.product == Product::kInnerProduct) value -= ShiftCodes(row, k, (*least)[static_cast<size_t>(p)]);
      out[(o / nr * kWinogradPositions + p) * nr + o % nr] = static_cast<int32_t>(value);
    }
  }
  return codes;
}

uint32_t ShiftCodes(int8_t* codes, int64_t n, int least) {
  uint32_t products = 0;
  for (int64_t i = 0; i < n; i += 8) {
    for (int64_t j = i; j < i + 4; ++j) {
      const int y0 = codes[j] - least - 128, y1 = codes[j + 4] - least;
      products += static_cast<uint32_t>(y0 * y1 - least * (least + 128));
      codes[j] = static_cast<int8_t>(y0);
      codes[j + 4] = static_cast<int8_t>(y1);
    }
  }
  return products;
}

}  // namespace pqi::pack
