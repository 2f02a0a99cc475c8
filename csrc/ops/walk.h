// Arrays that are read in another order than they are written: where the element lies that each place of a dense output takes.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "base/span.h"
#include "conv/copy_few.h"
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
  // A walk through the same places with as few axes as can be, but at least one: axes of length 1 are left out, and neighbours that are
  // read like one axis become one.
  Walk Merged() const {
    Walk merged;
    for (size_t d = 0; d < rank; ++d) {
      if (length[d] == 1) continue;
      const size_t last = merged.rank - 1;
      if (merged.rank > 0 && merged.distance[last] == length[d] * distance[d]) {
        merged.length[last] *= length[d];
        merged.distance[last] = distance[d];
      } else {
        merged.Add(length[d], distance[d]);
      }
    }
    if (merged.rank == 0) merged.Add(1, 1);
    return merged;
  }
};

// A walk through an array of shape `in` that is broadcast to shape `out`, of the same rank: dimensions of 1 are repeated. No dimension of
// `in` is 0, because an empty output is not computed.
inline Walk BroadcastWalk(Span<const int64_t> in, const ConcreteShape& out) {
  Walk walk;
  int64_t distance = 1;
  for (size_t d = 0; d < out.size(); ++d) distance *= in[d];
  for (size_t d = 0; d < out.size(); ++d) {
    distance /= in[d];
    walk.Add(out[d], in[d] == 1 ? 0 : distance);
  }
  return walk;
}

// Goes through the places of a walk over its axes [0, axes) in order, and knows where each is read.
class WalkCursor {
 public:
  WalkCursor(const Walk& walk, size_t axes, int64_t index) : walk_(walk), axes_(axes) {
    for (size_t d = axes; d-- > 0;) {
      at_[d] = index % walk.length[d];
      index /= walk.length[d];
      offset_ += at_[d] * walk.distance[d];
    }
  }
  int64_t offset() const { return offset_; }
  void Next() {
    for (size_t d = axes_; d-- > 0;) {
      offset_ += walk_.distance[d];
      if (++at_[d] < walk_.length[d]) return;
      offset_ -= at_[d] * walk_.distance[d];
      at_[d] = 0;
    }
  }

 private:
  const Walk& walk_;
  size_t axes_;
  int64_t offset_ = 0;
  std::array<int64_t, kMaxRank + 1> at_{};
};

// Writes runs of a walk whose last axis is read with a distance, where the elements of axis `near` lie beside each other: squares of the
// two axes, so that both what is read and what is written stays in L1.
template <typename T>
void CopySquares(const Walk& walk, size_t near, const T* x, T* y, int64_t count, ThreadPool* pool) {
  constexpr int64_t kSide = 16, kBand = 64;
  const size_t last = walk.rank - 1;
  const int64_t columns = walk.length[last], step = walk.distance[last], rows = walk.length[near];
  int64_t row = 1;  // the distance of neighbours on axis `near` in the output
  for (size_t d = near + 1; d < walk.rank; ++d) row *= walk.length[d];
  Walk others;  // of the axes around both, with the places where they are read and written
  Walk written;
  int64_t elements = count;
  for (size_t d = 0; d < last; ++d) {
    elements /= walk.length[d];
    if (d == near) continue;
    others.Add(walk.length[d], walk.distance[d]);
    written.Add(walk.length[d], elements);
  }
  const int64_t bands = (rows + kBand - 1) / kBand;
  ParallelFor(pool, count / (rows * columns) * bands, kGrain / (kBand * columns) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) {
      const int64_t first = part % bands * kBand, height = std::min(kBand, rows - first);
      const T* from = x + WalkCursor(others, others.rank, part / bands).offset() + first;
      T* to = y + WalkCursor(written, written.rank, part / bands).offset() + first * row;
      for (int64_t c = 0; c < columns; c += kSide) {
        const int64_t width = std::min(kSide, columns - c);
        if (width < 8) {  // short rows are written one column after the other
          for (int64_t i = c; i < c + width; ++i) {
            for (int64_t r = 0; r < height; ++r) to[r * row + i] = from[i * step + r];
          }
          continue;
        }
        for (int64_t r = 0; r < height; ++r) {
          for (int64_t i = c; i < c + width; ++i) to[r * row + i] = from[i * step + r];
        }
      }
    }
  });
}

// Writes the `count` > 0 elements of an output, run by run along the last axis.
template <typename T>
void CopyAlong(const Walk& given, const T* x, T* y, int64_t count, ThreadPool* pool) {
  const Walk walk = given.Merged();
  const size_t outer = walk.rank - 1;
  const int64_t inner = walk.length[outer], step = walk.distance[outer];
  if (step > 1) {
    for (size_t d = 0; d < outer; ++d) {
      if (walk.distance[d] == 1) return CopySquares(walk, d, x, y, count, pool);
    }
  }
  ParallelFor(pool, count / inner, kGrain / inner + 1, [&](int64_t begin, int64_t end) {
    WalkCursor at(walk, outer, begin);
    for (int64_t run = begin; run < end; ++run, at.Next()) {
      const T* from = x + at.offset();
      T* to = y + run * inner;
      if (step != 1) {
        for (int64_t i = 0; i < inner; ++i) to[i] = from[i * step];
      } else {
        conv::CopyRun(from, inner, to);
      }
    }
  });
}

}  // namespace pqi::ops
