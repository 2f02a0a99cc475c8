// Arrays that are read in another order than they are written: where the element lies that each place of a dense output takes.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>

#include "graph/shapes.h"
#include "ops/op.h"
#include "ops/step_util.h"

namespace pqi::ops {

// The axes of a row-major output, outermost first, each with the distance of neighbours in the array that is read: 0 repeats an element.
struct Walk {
  size_t rank = 0;
  std::array<int64_t, kMaxRank + 1> length{}, distance{};

  void Add(int64_t axis_length, int64_t axis_distance) {
    length[rank] = axis_length;
    distance[rank++] = axis_distance;
  }
  // Where element `index` of an output over the first `axes` axes lies.
  int64_t Offset(int64_t index, size_t axes) const {
    int64_t offset = 0;
    for (size_t d = axes; d-- > 0;) {
      offset += index % length[d] * distance[d];
      index /= length[d];
    }
    return offset;
  }
};

// Writes the `count` > 0 elements of an output, run by run along the last axis. The walk has at least one axis.
template <typename T>
void CopyAlong(const Walk& walk, const T* x, T* y, int64_t count, ThreadPool* pool) {
  const size_t outer = walk.rank - 1;
  const int64_t inner = walk.length[outer], step = walk.distance[outer];
  const bool whole = step == 1 && inner >= 16;  // below that a call of memcpy costs more than it saves
  ParallelFor(pool, count / inner, kGrain / inner + 1, [&](int64_t begin, int64_t end) {
    for (int64_t run = begin; run < end; ++run) {
      const T* from = x + walk.Offset(run, outer);
      T* to = y + run * inner;
      if (whole) {
        std::memcpy(to, from, static_cast<size_t>(inner) * sizeof(T));
      } else {
        for (int64_t i = 0; i < inner; ++i) to[i] = from[i * step];
      }
    }
  });
}

}  // namespace pqi::ops
