// Linear layers whose codes lie packed, 2 or 4 bits each, over rows that were quantized at run time (kernels/generic/narrow.h).
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/contract/output.h"
#include "kernels/contract/tile.h"

namespace pqi::kernels {

// A packed panel is nr channels, group after group of k-values. A group: for every 4 * 8/bits k-values one line of nr * 4 bytes, of which
// byte 4 * c + b has, from its lowest bits on, the codes (two's complement) of channel c and k-values b, 4 + b, 8 + b, ...; then the nr
// scales of the group, divided by 2^NarrowKernels::shift because kernels may multiply codes by that to extend their signs. k is a multiple
// of 4 * 8/bits: where a group is not, the codes that fill it up are 0. Rows lie likewise, with any bytes there.
struct NarrowTile {
  const uint8_t* a;  // rows of codes, a_stride bytes apart
  size_t a_stride;
  uint32_t k, groups;    // of a group, as packed
  const uint8_t* w;      // the panel, 64-byte aligned
  const int32_t* shift;  // [m] offset - z of each row
  // [m][nr] with several groups, floats: sum over them in ascending order of f32(f32(acc) * scale); with one group, int32: acc.
  // acc = sum((q - z) * code).
  void* sums;
};

// 255 * 8 * k < 2^24.
inline constexpr int kNarrowExact = 8192;
// The same after a panel was unpacked (UnpackNarrow), for the groups of a piece of it.
struct NarrowUnpacked {
  const uint8_t* a;  // the first group's k-values of each row
  size_t a_stride;
  uint32_t k, groups;
  const int8_t* codes;  // 64-byte aligned
  size_t group_bytes;
  const float* code_sum;  // [groups][nr] sum(code); at most kNarrowExact k-values make a sum that floats hold exactly
  const float* scale;     // [groups][nr]
  const float* shift;     // [m] as in NarrowTile
  float* sums;            // [m][nr]
  bool first;             // there are no sums yet
};

// Whole groups of a packed panel to bytes: blocks of four k-values by nr channels, `block_stride` bytes apart, groups `group_stride` bytes.
struct UnpackNarrow {
  const uint8_t* w;
  uint32_t k, groups;
  int8_t* codes;
  size_t block_stride, group_stride;
  // [groups][nr] sum(code), and the scales as they were before they were divided.
  float* code_sum;
  float* scale;
};

// What is left to do for m rows by n channels after their sums (docs/numerics.md, "linear_dynamic").
struct FinishNarrow {
  const void* sums;  // as in NarrowTile, rows `stride` elements apart
  size_t stride;
  uint32_t m, n;
  const float* row_scale;  // [m]
  const float* scale;      // [nr] of the weights with one group; nullptr: several groups
  const float* bias;       // [nr]; nullptr = none
  Output output;
  void* out;
  size_t out_stride;
};

// Linear layers of packed codes. Entry [i] of an array is for i + 1 rows.
struct NarrowKernels {
  int nr = 0;                   // channels of a packed panel; 0: the set has none of these
  int mr = 0, unpacked_mr = 0;  // rows at most
  int shift[2] = {};            // by which scales in the panel are too small; [0]: 2 bits, [1]: 4 bits, as below
  // The unpacked tiles read groups of rows and codes up to the next multiple of `piece` k-values, of which the codes from k on are 0, and
  // `reads` rows where m is less; what is in those they ignore.
  int piece = 0, reads = 0;
  void (*tile[2][kMaxMr])(const NarrowTile&) noexcept;
  void (*unpack[2])(const UnpackNarrow&) noexcept;
  void (*unpacked_tile[kMaxMr])(const NarrowUnpacked&) noexcept;
  void (*finish)(const FinishNarrow&) noexcept;
};

struct NarrowSet {
  NarrowKernels narrow;
};

}  // namespace pqi::kernels
