// Linear layers whose codes lie packed in 2 or 4 bits each, over rows that were quantized at run time (kernels/generic/narrow.h).
//
// A packed panel is nr channels, group after group of k-values. A group is a number of lines, one for every 4 * 8/bits k-values, and then
// its nr scales. A line is nr * 4 bytes; its byte 4 * c + b holds, from the lowest bits on, the codes (two's complement) of channel c and
// k-values b, 4 + b, 8 + b, ... The scales are divided by 2^NarrowKernels::shift, because kernels may multiply codes by that power to
// extend their signs. k is a multiple of 4 * 8/bits: a group of fewer k-values is filled up with codes of 0, and rows with any bytes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/contract/output.h"
#include "kernels/contract/tile.h"

namespace pqi::kernels {

// The sums of m rows by the nr channels of a packed panel, acc = sum((q - z) * code).
struct NarrowTile {
  const uint8_t* a;      // rows of codes
  size_t a_stride;       // bytes between rows
  uint32_t k, groups;    // k-values of a group, filled up as in the panel
  const uint8_t* w;      // the panel, 64-byte aligned
  const int32_t* shift;  // [m] offset - z of each row
  // [m][nr]. With several groups floats: the sum over them, in ascending order, of f32(f32(acc) * scale). With one group int32: acc.
  void* sums;
};

// At most so many k-values make a sum of codes times 255 that a float holds exactly: 255 * 8 * 8192 < 2^24.
inline constexpr int kNarrowExact = 8192;
// The sums of m rows by a piece of a panel that was unpacked (UnpackNarrow): some groups of it.
struct NarrowUnpacked {
  const uint8_t* a;  // k-values of the piece's first group, of each row
  size_t a_stride;
  uint32_t k, groups;
  const int8_t* codes;  // 64-byte aligned
  size_t group_bytes;
  const float* code_sum;  // [groups][nr] sum(code)
  const float* scale;     // [groups][nr]
  const float* shift;     // [m] offset - z of each row
  float* sums;            // [m][nr], to which these groups are added
  bool first;             // there are no sums yet
};

// Unpacks whole groups of a packed panel to bytes, in blocks of four k-values by nr channels.
struct UnpackNarrow {
  const uint8_t* w;
  uint32_t k, groups;
  int8_t* codes;
  size_t block_stride, group_stride;  // bytes between blocks, and between groups
  float* code_sum;                    // [groups][nr] sum(code)
  float* scale;                       // [groups][nr], as they were before the packer divided them
};

// What is left to do after the sums of m rows by n channels: scales, bias and output (docs/numerics.md, "linear_dynamic").
struct FinishNarrow {
  const void* sums;  // floats or int32, as in NarrowTile
  size_t stride;     // elements between rows of sums
  uint32_t m, n;
  const float* row_scale;  // [m]
  const float* scale;      // [nr] scales of the weights where there is one group; nullptr where sums have them already
  const float* bias;       // [nr]; nullptr where there is none
  Output output;
  void* out;
  size_t out_stride;  // elements between rows
};

// Kernels for packed codes. Entry [i] of an array is for i + 1 rows; [0] of a pair is for 2 bits, [1] for 4 bits.
struct NarrowKernels {
  int nr = 0;                   // channels of a packed panel; 0: the set has none of these kernels
  int mr = 0, unpacked_mr = 0;  // most rows of a packed and of an unpacked tile
  int shift[2] = {};            // scales in the panel are divided by 2^shift
  // The unpacked tiles read groups of rows and of codes up to the next multiple of `piece` k-values, and `reads` rows where m is less, and
  // ignore what they find there; the codes from k on must be 0.
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
