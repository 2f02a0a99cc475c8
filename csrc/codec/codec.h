// How low-bit codes lie in a file (docs/format.md, "Constants"). Codes are signed; n counts the elements of a whole constant.
//
// Pack functions fill `out`, whose size must be the matching ...Bytes(codes.size()); kInvalidArgument names the first code out of range.
// Unpack functions are strict: kModelFormat where `bytes` has the wrong size, an impossible byte, or unused bits (trits) that are not 0,
// so that every array of codes has exactly one packed form.
#pragma once

#include <cstdint>

#include "base/span.h"
#include "base/status.h"

namespace pqi {

// Range of a signed code of `bits` bits, 2..8.
inline int32_t CodeMin(int32_t bits) { return -(1 << (bits - 1)); }
inline int32_t CodeMax(int32_t bits) { return (1 << (bits - 1)) - 1; }

// kInvalidArgument, naming the first code outside [lo, hi], if there is one.
Status CheckRange(Span<const int8_t> codes, int32_t lo, int32_t hi);

// Two codes of -8..7 per byte, element 2i in the low nibble; the high nibble of an odd tail is 0.
inline uint64_t NibbleBytes(uint64_t n) { return n / 2 + n % 2; }
Status PackNibbles(Span<const int8_t> codes, Span<uint8_t> out);
Status UnpackNibbles(Span<const uint8_t> bytes, Span<int8_t> codes);

// Five codes of -1..1 per byte: sum of (v_j + 1) * 3^j. Digits after the last element are 0 (not the digit of value 0, which is 1).
inline uint64_t TritBytes(uint64_t n) { return n / 5 + (n % 5 != 0); }
Status PackTrits(Span<const int8_t> codes, Span<uint8_t> out);
Status UnpackTrits(Span<const uint8_t> bytes, Span<int8_t> codes);

// Codes of `bits` (2..7) bits in a little-endian stream: element i is bits [i*bits, (i+1)*bits), bit 0 the lowest of byte 0.
inline uint64_t DenseBytes(uint64_t n, int32_t bits) {
  const uint64_t b = static_cast<uint64_t>(bits);
  return n / 8 * b + (n % 8 * b + 7) / 8;
}
Status PackDense(Span<const int8_t> codes, int32_t bits, Span<uint8_t> out);
Status UnpackDense(Span<const uint8_t> bytes, int32_t bits, Span<int8_t> codes);

}  // namespace pqi
