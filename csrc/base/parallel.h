// Fork-join parallelism: one small pool per session. Between the layers of a run its threads wait awake; after 0.2 ms without work, or if
// the pool has more threads than the process has CPUs, they sleep.
//
// Own code on purpose: OpenMP hangs after fork and fights torch's own threads. Bodies may run on any thread, in any order, and must not
// throw or allocate. Results never depend on the number of parts, because a part only decides which outputs a thread writes.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

namespace pqi {

class ThreadPool {
 public:
  // `threads` >= 1, the caller included: 1 starts no thread. Throws std::bad_alloc; if the system refuses a thread or
  // its memory, fewer are used.
  explicit ThreadPool(int threads);
  // Joins the workers, except in a forked child, which does not have them.
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const;

  using Job = void (*)(void* arg, int part) noexcept;
  // Calls job(arg, part) once for each part < parts and returns when all have ended. The caller takes part, and a part is run by the same
  // thread as the part of that number in the job before, unless that one is late. If parts > threads(), if the pool is busy with
  // another caller's job, or the call comes from inside a job, or this process is a forked child, the caller does everything itself.
  void Run(int parts, Job job, void* arg);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Splits [0, n) into at most pool->threads() contiguous ranges of nearly equal length, each of at least `grain` elements (waking a
// thread takes microseconds), and calls fn(begin, end) for each. A null pool runs on the caller alone.
template <typename Fn>
void ParallelFor(ThreadPool* pool, int64_t n, int64_t grain, Fn&& fn) {
  if (n <= 0) return;
  const int64_t threads = pool ? pool->threads() : 1;
  const int64_t most = n / grain;
  const int parts = static_cast<int>(threads < most ? threads : most);
  if (parts <= 1) {
    fn(int64_t{0}, n);
    return;
  }
  struct Args {
    std::remove_reference_t<Fn>* fn;
    int64_t n;
    int parts;
  } args{&fn, n, parts};
  pool->Run(
      parts,
      [](void* p, int part) noexcept {
        const Args& a = *static_cast<Args*>(p);
        // n = parts * chunk + rest: the first `rest` parts take one more.
        const int64_t chunk = a.n / a.parts, rest = a.n % a.parts;
        const int64_t begin = part * chunk + (part < rest ? part : rest);
        (*a.fn)(begin, begin + chunk + (part < rest ? 1 : 0));
      },
      &args);
}

}  // namespace pqi
