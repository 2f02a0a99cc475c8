// Checked arithmetic on sizes. Every number that comes from a file or a caller goes through these before it becomes a size or an offset.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pqi {

// Each returns false, and leaves *out unspecified, if the exact result does not fit T (an unsigned type).
template <typename T>
[[nodiscard]] bool CheckedAdd(T a, T b, T* out) {
  return !__builtin_add_overflow(a, b, out);
}

template <typename T>
[[nodiscard]] bool CheckedMul(T a, T b, T* out) {
  return !__builtin_mul_overflow(a, b, out);
}

struct FloorQuotient {
  int64_t quotient = 0, remainder = 0;
};

// Division that rounds down, where C++ rounds towards zero; the remainder has the divisor's sign. `b` is not 0, and the quotient fits.
inline FloorQuotient FloorDivide(int64_t a, int64_t b) {
  const int64_t remainder = a % b;
  const bool rounds_up = remainder != 0 && (remainder < 0) != (b < 0);
  return {a / b - (rounds_up ? 1 : 0), rounds_up ? remainder + b : remainder};
}

// Smallest multiple of `alignment` (a power of two) that is >= value.
template <typename T>
[[nodiscard]] bool CheckedAlignUp(T value, T alignment, T* out) {
  T sum;
  if (!CheckedAdd<T>(value, static_cast<T>(alignment - 1), &sum)) return false;
  *out = static_cast<T>(sum & ~static_cast<T>(alignment - 1));
  return true;
}

// Product of dimensions >= 0, times `element_bytes`; false if it exceeds `limit`. Dimensions of 0 are left out of that comparison, so that
// the answer does not depend on the order of the dimensions; then the product is 0.
template <typename Range>
[[nodiscard]] bool CheckedByteSize(const Range& dims, uint64_t element_bytes, uint64_t limit, uint64_t* out) {
  uint64_t nonzero_product = element_bytes;
  bool has_zero = false;
  for (int64_t d : dims) {
    if (d < 0) return false;
    if (d == 0) {
      has_zero = true;
    } else if (!CheckedMul<uint64_t>(nonzero_product, static_cast<uint64_t>(d), &nonzero_product)) {
      return false;
    }
  }
  *out = has_zero ? 0 : nonzero_product;
  return nonzero_product <= limit;
}

}  // namespace pqi
