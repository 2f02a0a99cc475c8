// Panels for matrix registers (kernels/contract/matrix.h).
//
// A tap's k-values are cut into pieces of 64, what a row of a matrix register holds. The last piece is moved back so that it ends with the
// tap, and what it shares with the piece before has weight 0; a tap of fewer k-values is one shorter piece.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/contract/matrix.h"
#include "pack/arrange.h"
#include "pack/panel.h"

namespace pqi::pack {

inline int64_t PieceBytes(int64_t k) { return k >= kernels::kMatrixBytes ? kernels::kMatrixBytes : RoundUp(k, 4); }
inline int64_t Pieces(int64_t k) { return CeilDiv(k, kernels::kMatrixBytes); }
// The k-value at which a piece begins.
inline int64_t PieceAt(int64_t k, int64_t piece) {
  return std::min(piece * kernels::kMatrixBytes, std::max<int64_t>(k - kernels::kMatrixBytes, 0));
}

// Fills one panel from n <= kMatrixChannels channels of [taps][k] codes; channel c starts at channels + c * taps * k. What the codes do
// not cover is left as it is.
void PackMatrixPanel(const PanelGrid& grid, const int8_t* channels, int64_t n, int8_t* panel);

}  // namespace pqi::pack
