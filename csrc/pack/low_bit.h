// Codes as inner-product kernels want them (kernels/generic/low_bit.h): shifted, so that two products cost one multiplication.
#pragma once

#include <array>
#include <cstdint>

namespace pqi::pack {

// The least code of each piece of k-values that a kernel multiplies at a time: by position for Winograd's transformed codes, else at [0].
// The kernels of row terms subtract it from the activations too.
inline constexpr int kMostPositions = 46;
using LeastCodes = std::array<int8_t, kMostPositions>;

// Shifts n codes (a multiple of 8) in place: the first four of every eight to code - least - 128, the last four to code - least as u8.
// Returns by how much the products of any row exceed the sums that they stand for, sum(y0*y1 - least*(least + 128)) over the shifted pairs
// y0, y1, modulo 2^32. `least` is at most 0.
uint32_t ShiftCodes(int8_t* codes, int64_t n, int least);

}  // namespace pqi::pack
