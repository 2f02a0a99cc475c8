// Transposes of squares of vectors.
#pragma once

#include "kernels/generic/compiler.h"

namespace pqi::kernels {
namespace {

// Exchanges rows and columns of N vectors of N elements, N a power of two. T::Low(a, b) and T::High(a, b) interleave the elements of the
// lower and of the upper halves of two vectors. Numbered by vector and then by element, elements have addresses of 2 * log2(N) bits;
// interleaving vector i with vector i + N / 2 turns these by one bit, so log2(N) rounds exchange vector and element. Vectors that T treats
// as pieces side by side are so many squares.
template <class T, int N>
PQI_INLINE void TurnSquare(typename T::Vector (&v)[N]) {
  PQI_UNROLL for (int turned = 1; turned < N; turned *= 2) {
    typename T::Vector next[N];
    PQI_UNROLL for (int i = 0; i < N / 2; ++i) {
      next[2 * i] = T::Low(v[i], v[i + N / 2]);
      next[2 * i + 1] = T::High(v[i], v[i + N / 2]);
    }
    PQI_UNROLL for (int i = 0; i < N; ++i) v[i] = next[i];
  }
}

}  // namespace
}  // namespace pqi::kernels
