// Work divided into parts, for steps that need to know the part: each has scratch memory of its own.
#pragma once

#include <algorithm>
#include <cstdint>

#include "ops/op.h"
#include "ops/step_util.h"

namespace pqi::ops {

// How many parts `items` are divided into on `threads` threads, each worth waking a thread for. `cost` of an item: how many elements it
// touches.
inline int PartCount(int64_t items, int64_t cost, int threads) {
  const int64_t worthwhile = std::max<int64_t>(items / (kGrain / std::max<int64_t>(cost, 1) + 1), 1);
  return static_cast<int>(std::min<int64_t>({worthwhile, items, threads}));
}

// Calls fn(begin, end, part) for pieces of [0, items); each part is run by one thread (RunArgs::Scratch).
template <typename Fn>
void ForEachPart(ThreadPool* pool, int64_t items, int64_t cost, Fn&& fn) {
  const int parts = PartCount(items, cost, pool ? pool->threads() : 1);
  ParallelFor(pool, parts, 1, [&](int64_t first, int64_t last) {
    for (int64_t part = first; part < last; ++part) fn(items * part / parts, items * (part + 1) / parts, part);
  });
}

}  // namespace pqi::ops
