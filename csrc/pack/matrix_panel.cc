#include "pack/matrix_panel.h"

#include <cstring>

namespace pqi::pack {

using kernels::kMatrixBytes;
using kernels::kMatrixRows;

void PackMatrixPanel(const PanelGrid& grid, const int8_t* channels, int64_t n, int8_t* panel) {
  const int64_t k = grid.k, pieces = Pieces(k), bytes = PieceBytes(k), block = bytes * kMatrixRows;
  for (int64_t c = 0; c < n; ++c) {
    const int8_t* from = channels + c * grid.taps * k;
    int8_t* column = panel + c / kMatrixRows * block + c % kMatrixRows * 4;
    for (int64_t tap = 0; tap < grid.taps; ++tap, from += k) {
      for (int64_t piece = 0; piece < pieces; ++piece, column += 2 * block) {
        const int64_t at = PieceAt(k, piece), end = std::min(at + bytes, k);
        int64_t i = piece * kMatrixBytes;
        if (i == at) {
          for (; i + 4 <= end; i += 4) std::memcpy(column + (i - at) * kMatrixRows, from + i, 4);
        }
        for (; i < end; ++i) column[(i - at) / 4 * (kMatrixRows * 4) + (i - at) % 4] = from[i];
      }
    }
  }
}

}  // namespace pqi::pack
