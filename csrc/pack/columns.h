// A right operand that is known only at run time, laid into a panel a few columns at a time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "kernels/contract/tile.h"
#include "kernels/reference/matmul.h"
#include "pack/arrange.h"
#include "pack/panel.h"

namespace pqi::pack {

// Half the range of a code: what takes u8 to s8.
inline constexpr int32_t kCentre = 128;

inline int64_t ColumnPanelElements(const kernels::TileShape& tile, int64_t k) { return RoundUp(k, tile.kr) * tile.nr; }

// Columns [first, first + n) of b as a panel of floats, [k][nr].
void PackColumns(const kernels::MatrixShape& s, const float* b, int64_t first, int64_t n, int64_t nr, float* panel);
// Columns [first, first + n) of b as a panel of codes q - kCentre, [k / kr][nr][kr], and the sum of the codes of each column.
void PackColumns(const kernels::MatrixShape& s, const uint8_t* b, int64_t first, int64_t n, const kernels::TileShape& tile, int8_t* panel,
                 int32_t* sums);

}  // namespace pqi::pack
