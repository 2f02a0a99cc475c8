// Sums of convolutions whose weights are mostly zero: one addition or subtraction per non-zero for a whole vector of output positions.
//
// The input is laid out in planes, one per input channel, a byte per position. A plane consists of lines, whole vectors that are as long
// as a line of output positions; a tap finds what it multiplies by at the beginning of one of them, so loads are always aligned. Taps that
// lie to the right of others in the window are summed apart, in a row of their own, and the rows are added with the shift between them
// afterwards: the shift of a sum is the sum of shifts. Sums of codes are made in bytes and widened to 16 bits before they could pass 255;
// where codes are too large for that (wide), each stands in 16 bits from the beginning, first the even positions of a vector, then the odd
// ones.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/contract/tile.h"

namespace pqi::kernels {

inline constexpr int kMaxSparseVectors = 8;
inline constexpr int kSparseOffsetUnit = 8;  // bytes; offsets of 16 bits then reach over 512 KB
inline constexpr int kSparseChannels = 16;   // planes are made so many at a time

// A step adds to `row`, of which there are as many as SparseRowsAtOnce. Each takes `add` offsets of planes to be added, then `sub` of
// planes to be subtracted. Where there are two rows, their offsets take turns.
struct SparseStep {
  uint8_t add, sub;
  uint16_t row[2];
};
// With few vectors the additions of one row wait for each other, and two rows are summed side by side.
constexpr int SparseRowsAtOnce(int vectors) { return vectors <= 2 ? 2 : 1; }

// planes[c * plane + j] = pixels[j][channel + c] for c < channels and j < positions, and 0 up to the next multiple of kSparseChannels. In
// wide form position j takes two bytes. `positions` is a multiple of the set's sparse_positions.
struct SparsePlanes {
  const uint8_t* const* pixels;
  size_t channel;
  uint32_t channels, positions;
  uint8_t* planes;  // on a multiple of sparse_positions, like `plane`
  size_t plane;     // bytes from plane to plane
};

// Row r, at sums + r * 2 * vectors * sparse_positions: the even positions of all vectors in 16 bits, then the odd ones. All arithmetic is
// modulo 2^16, and each step leaves its row larger by sub * largest. A row is read from other positions than its own: behind the last one
// follow kSparseRowsEnd bytes, and as many as there are positions in the largest shift, of any content.
inline constexpr size_t kSparseRowsEnd = 128;
struct SparseSums {
  const uint8_t* planes;    // what offsets count from
  const uint16_t* offsets;  // in kSparseOffsetUnit
  const SparseStep* steps;
  size_t count;
  uint8_t largest;  // no code of a plane is larger, and (add + sub) * largest is at most 255; 0 in wide form
  uint8_t* sums;    // 64-byte aligned
};

// Where the summands of a channel's even and odd positions lie in one of its rows: bytes from the first of its rows.
struct SparseRow {
  uint32_t even, odd;
};
// The place of row r of a channel, whose positions are read `shift` later: half the shifts exchange even and odd ones.
constexpr SparseRow PlaceSparseRow(uint32_t r, uint32_t vectors, uint32_t sparse_positions, uint32_t shift) {
  const uint32_t array = vectors * sparse_positions, even = r * 2 * array, odd = even + array;
  return shift % 2 == 0 ? SparseRow{even + shift, odd + shift} : SparseRow{odd + shift - 1, even + shift + 1};
}

// The end of one line of output positions for epilogue.n channels, of which there may be any number. The sum of channel c at position j is
// init[c] and the sum over its rows, row c * rows + r at position j + shift[r]. Rows are added in as many passes as there are numbers in
// `fill` to a channel, one, or one for each row; fill[c * passes + p] is what the rows of pass p have too much. Position s * pitch + x, x <
// width, is output pixel s * segment_pixels + x.
struct SparseOutput {
  const uint8_t* sums;
  uint32_t vectors;      // of a row
  uint32_t rows;         // of a channel
  const SparseRow* row;  // [rows]
  const uint16_t* fill;  // [channels][passes]
  bool at_once;          // 16 bits hold the result, not only each row: there is one pass, and `fill` is less by init, which is not read
  uint32_t line_vector, line_count;  // the line's first vector within a row, and how many it has
  // Scratch, 64-byte aligned, of kSparseScratchRows * SparseShortBytes(positions of the line) bytes each, and kSparseRowsEnd more.
  uint8_t *shorts, *residual;
  const uint8_t** pixels;  // scratch: [positions of the line]
  int32_t* tile;           // scratch: [SparseTileRows(positions of the line)][nr of TileSet::u8s8]
  uint32_t segments, pitch, width;
  size_t segment_pixels;
  TileU8S8 epilogue;  // that of the first pixel; a, taps, k and w are not read, and there is no base
};
inline constexpr size_t kSparseFinished = 8, kSparseScratchRows = 32;
constexpr size_t SparseShortBytes(size_t line) { return (line + 63) / 64 * 64; }
constexpr size_t SparseTileRows(size_t line) { return SparseShortBytes(line) + 4; }

using SparsePlanesFn = void (*)(const SparsePlanes&) noexcept;
using SparseSumsFn = void (*)(const SparseSums&) noexcept;

// One form of planes.
struct SparseKernels {
  int vectors;  // of a row at most
  SparsePlanesFn planes;
  SparseSumsFn store[kMaxSparseVectors];  // entry [i]: rows of i + 1 vectors become what the steps sum; a row stands in one step only
  SparseSumsFn add[kMaxSparseVectors];    // rows grow by what the steps sum
};
struct SparseSet {
  int sparse_positions;  // bytes of a vector; 0: the set has no such kernels
  SparseKernels sparse_bytes, sparse_wide;
  void (*sparse_output)(const SparseOutput&) noexcept;
};

}  // namespace pqi::kernels
