// Copies of a few elements, and of runs that are often as short.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace pqi::conv {

// A few dozen bytes at most: a call of memcpy would cost more than the copy. Overlapping pieces cover any length exactly.
template <typename T>
inline void CopyFew(const T* from, int64_t elements, T* to) {
  const size_t n = static_cast<size_t>(elements) * sizeof(T);
  const char* f = reinterpret_cast<const char*>(from);
  char* t = reinterpret_cast<char*>(to);
  if (n >= 16) {
    for (size_t i = 0; i + 16 < n; i += 16) std::memcpy(t + i, f + i, 16);
    std::memcpy(t + n - 16, f + n - 16, 16);
  } else if (n >= 8) {
    std::memcpy(t, f, 8);
    std::memcpy(t + n - 8, f + n - 8, 8);
  } else if (n >= 4) {
    std::memcpy(t, f, 4);
    std::memcpy(t + n - 4, f + n - 4, 4);
  } else {
    for (size_t i = 0; i < n; ++i) t[i] = f[i];
  }
}

// Any number of elements.
template <typename T>
inline void CopyRun(const T* from, int64_t elements, T* to) {
  constexpr size_t kFewBytes = 128;  // for which a call of memcpy costs more than it saves
  const size_t n = static_cast<size_t>(elements) * sizeof(T);
  if (n > kFewBytes) {
    std::memcpy(to, from, n);
  } else {
    CopyFew(from, elements, to);
  }
}

}  // namespace pqi::conv
