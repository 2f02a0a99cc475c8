// What the ops over rows of the last axis share.
#pragma once

#include <algorithm>
#include <cstdint>

#include "ops/op.h"
#include "ops/step_util.h"

namespace pqi::ops {

// Pieces that `rows` are divided into on `threads` threads, each worth waking a thread for.
inline int RowParts(int64_t rows, int64_t cost_per_row, int threads) {
  const int64_t worthwhile = std::max<int64_t>(rows / (kGrain / std::max<int64_t>(cost_per_row, 1) + 1), 1);
  return static_cast<int>(std::min<int64_t>({worthwhile, rows, threads}));
}

// Calls fn(begin, end, part) for pieces of [0, rows); each part is run by one thread (RunArgs::Scratch).
template <typename Fn>
void ForEachRowPart(ThreadPool* pool, int64_t rows, int64_t cost_per_row, Fn&& fn) {
  const int parts = RowParts(rows, cost_per_row, pool ? pool->threads() : 1);
  ParallelFor(pool, parts, 1, [&](int64_t first, int64_t last) {
    for (int64_t part = first; part < last; ++part) fn(rows * part / parts, rows * (part + 1) / parts, part);
  });
}

}  // namespace pqi::ops
