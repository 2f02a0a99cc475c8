#include "pack/columns.h"

namespace pqi::pack {

void PackColumns(const kernels::MatrixShape& s, const float* b, int64_t first, int64_t n, int64_t nr, float* panel) {
  if (n < nr) std::fill_n(panel, s.k * nr, 0.0f);
  if (s.transposed) {
    for (int64_t j = 0; j < n; ++j) {
      const float* column = b + (first + j) * s.k;
      for (int64_t k = 0; k < s.k; ++k) panel[k * nr + j] = column[k];
    }
  } else {
    for (int64_t k = 0; k < s.k; ++k) std::memcpy(panel + k * nr, b + k * s.n + first, static_cast<size_t>(n) * sizeof(float));
  }
}

void PackColumns(const kernels::MatrixShape& s, const uint8_t* b, int64_t first, int64_t n, const kernels::TileShape& tile, int8_t* panel,
                 int32_t* sums) {
  const int64_t nr = tile.nr, kr = tile.kr;
  if (n < nr || s.k % kr != 0) std::fill_n(panel, ColumnPanelElements(tile, s.k), int8_t{0});
  std::fill_n(sums, nr, 0);
  const auto put = [&](int64_t k, int64_t j, uint8_t q) {
    const int32_t code = q - kCentre;
    const int64_t at = PanelPosition(s.k, kr, k);
    panel[at / kr * nr * kr + j * kr + at % kr] = static_cast<int8_t>(code);
    sums[j] += code;
  };
  if (s.transposed) {
    for (int64_t j = 0; j < n; ++j) {
      for (int64_t k = 0; k < s.k; ++k) put(k, j, b[(first + j) * s.k + k]);
    }
  } else {
    for (int64_t k = 0; k < s.k; ++k) {
      for (int64_t j = 0; j < n; ++j) put(k, j, b[k * s.n + first + j]);
    }
  }
}

}  // namespace pqi::pack
