// What every packer needs to arrange memory and work: rounding, even pieces, and arrays one after another on kAlignment boundaries.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "base/aligned.h"

namespace pqi::pack {

inline int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t RoundUp(int64_t a, int64_t b) { return CeilDiv(a, b) * b; }

// Begin of piece i of n elements in `pieces` pieces whose sizes differ by at most one.
inline int64_t PieceBegin(int64_t n, int64_t pieces, int64_t i) { return n / pieces * i + std::min(i, n % pieces); }

// Makes room for n bytes behind *bytes, which stays a multiple of kAlignment; returns their offset.
inline size_t Append(size_t* bytes, size_t n) {
  const size_t at = *bytes;
  *bytes += (n + kAlignment - 1) / kAlignment * kAlignment;
  return at;
}

template <typename T>
T* At(uint8_t* memory, size_t offset) {
  return reinterpret_cast<T*>(memory + offset);
}
template <typename T>
const T* At(const uint8_t* memory, size_t offset) {
  return reinterpret_cast<const T*>(memory + offset);
}

}  // namespace pqi::pack
