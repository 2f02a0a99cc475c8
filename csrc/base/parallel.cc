#include "base/parallel.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "base/cpus.h"
#include "base/fork.h"
#include "base/fpenv.h"

namespace pqi {
namespace {

std::atomic<uint64_t> g_fork_generation{0};

void CountFork() { g_fork_generation.fetch_add(1, std::memory_order_relaxed); }

// Registered when the library is loaded, so that no fork can come before it.
[[maybe_unused]] const int g_registered = pthread_atfork(nullptr, nullptr, CountFork);

// One turn of a loop that waits: tells the core so, which then uses less power and leaves its resources to the sibling thread.
void Relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Calls `ready` until it says true, for at most kAwake, and returns what it said last. After kAlone it lets other threads run in between,
// and calls `linger`.
template <typename Ready, typename Linger>
bool WaitAwake(Ready&& ready, Linger&& linger) {
  using Clock = std::chrono::steady_clock;
  // Waking a sleeping thread takes 5 us on bare metal and 60 us in a virtual machine, whose idle CPU goes back to its host. Layers come
  // tens of microseconds apart.
  constexpr auto kAwake = std::chrono::microseconds(200), kAlone = std::chrono::microseconds(50);
  constexpr int kChecksPerLook = 16;  // reading the clock costs about as much as a pause
  const auto begin = Clock::now();
  for (;;) {
    for (int i = 0; i < kChecksPerLook; ++i) {
      if (ready()) return true;
      Relax();
    }
    const auto waited = Clock::now() - begin;
    if (waited > kAwake) return ready();
    if (waited > kAlone) {
      linger();
      sched_yield();
    }
  }
}

}  // namespace

uint64_t ForkGeneration() { return g_fork_generation.load(std::memory_order_relaxed); }

// A job is published by one store of `ticket`; part i belongs to thread i, whose caches hold what it wrote in the layer before. A thread
// that is done takes parts whose owner has not come, because it sleeps. Whoever waits, for a job or for the end of one, does so awake for a
// while and then asleep. A waiter that goes to sleep says so (`sleepers`, `caller_sleeps`) and then looks once more; a waker changes the
// state and then looks for sleepers. All four are sequentially consistent, so one of the two sees the other.
struct ThreadPool::State {
  static constexpr size_t kLine = 64;  // what one thread writes while others look elsewhere lies in lines of its own
  struct alignas(kLine) Part {
    std::atomic<uint32_t> taken{0};  // number of the last job of which somebody took this part
    std::atomic<int> cpu{-1};        // where its thread was seen last
  };
  struct Ticket {
    uint32_t number = 0;  // counts jobs, from 1 on
    uint32_t parts = 0;
  };

  static_assert(std::atomic<Ticket>::is_always_lock_free);

  // The job in progress, or the last one.
  alignas(kLine) std::atomic<Ticket> ticket{Ticket{}};
  std::atomic<Job> job{nullptr};
  std::atomic<void*> arg{nullptr};
  alignas(kLine) std::atomic<uint32_t> unfinished{0};
  std::atomic<bool> caller_sleeps{false};
  alignas(kLine) std::atomic<int> sleepers{0};
  std::atomic<bool> busy{false};

  const uint64_t generation = ForkGeneration();
  const CpuSet cpus = CpuSet::OfThisThread();
  bool awake = false;  // whether threads may wait awake, because there is a CPU for each
  std::vector<Part> parts;
  std::vector<std::thread> workers;
  std::mutex mutex;
  std::condition_variable start, done;
  bool stop = false;  // under `mutex`

  explicit State(int threads) : parts(static_cast<size_t>(threads)) {}

  // Takes a part of job `t` and runs it; false if somebody has it. The job is replaced only when all its parts are taken, so `job` and
  // `arg` are its own if the exchange succeeds.
  bool Work(Ticket t, uint32_t part) {
    uint32_t last = parts[part].taken.load(std::memory_order_relaxed);
    if (last == t.number) return false;
    const Job j = job.load(std::memory_order_relaxed);
    void* const a = arg.load(std::memory_order_relaxed);
    // Another number than that of the job before is one of a later job: this thread comes too late.
    if (static_cast<int32_t>(last - t.number) > 0 || !parts[part].taken.compare_exchange_strong(last, t.number)) return false;
    j(a, static_cast<int>(part));
    return true;
  }

  // Runs a thread's own part, then those that nobody took. Returns how many parts it ran.
  uint32_t WorkFrom(Ticket t, uint32_t self) {
    if (self >= t.parts) return 0;
    uint32_t count = 0;
    for (uint32_t i = 0; i < t.parts; ++i) count += Work(t, (self + i) % t.parts);
    return count;
  }

  // Schedulers that save power, or that wake a thread near its waker, put two threads of a pool on one CPU and leave another idle, for
  // seconds. A thread that waits awake keeps such a place for good, so it looks where threads before it are and goes elsewhere.
  void Spread(uint32_t self) {
    const int here = CurrentCpu();
    CpuSet rest = cpus;
    bool shared = false;
    for (uint32_t i = 0; i < self; ++i) {
      const int taken = parts[i].cpu.load(std::memory_order_relaxed);
      rest.Remove(taken);
      shared |= taken == here;
    }
    if (shared) rest.BindThisThread();
    parts[self].cpu.store(shared ? CurrentCpu() : here, std::memory_order_relaxed);
  }

  void WorkerMain(uint32_t self) {
    FpEnvScope::SetDefault();
    uint32_t seen = 0;
    const auto more = [&] { return ticket.load().number != seen; };
    for (;;) {
      while (more()) {
        const Ticket t = ticket.load();
        seen = t.number;
        const uint32_t count = WorkFrom(t, self);
        if (count > 0 && unfinished.fetch_sub(count) == count && caller_sleeps.load()) {
          {
            const std::lock_guard<std::mutex> lock(mutex);
          }
          done.notify_one();
        }
      }
      if (awake && WaitAwake(more, [&] { Spread(self); })) continue;
      {
        std::unique_lock<std::mutex> lock(mutex);
        sleepers.fetch_add(1);
        start.wait(lock, [&] { return stop || more(); });
        sleepers.fetch_sub(1);
        if (stop) return;
      }
      if (awake) Spread(self);
    }
  }

  void WakeSleepers() {
    if (sleepers.load() == 0) return;
    {
      const std::lock_guard<std::mutex> lock(mutex);
    }
    start.notify_all();
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>(std::max(threads, 1))) {
  if (threads <= 1) return;
  state_->awake = threads <= UsableCpus();
  state_->workers.reserve(static_cast<size_t>(threads - 1));
  try {
    for (int i = 1; i < threads; ++i) {
      state_->workers.emplace_back([s = state_.get(), i] { s->WorkerMain(static_cast<uint32_t>(i)); });
    }
  } catch (const std::exception&) {
    // The system refuses one more thread, or the memory for it: the pool works with what it has.
  }
}

ThreadPool::~ThreadPool() {
  if (state_->generation != ForkGeneration()) {
    // A forked child cannot join its parent's threads, and the mutex may be held for ever: the memory is given up.
    static_cast<void>(state_.release());
    return;
  }
  {
    std::lock_guard<std::mutex> lock(state_->mutex);
    state_->stop = true;
  }
  state_->start.notify_all();
  for (std::thread& t : state_->workers) t.join();
}

int ThreadPool::threads() const { return state_->generation == ForkGeneration() ? static_cast<int>(state_->workers.size()) + 1 : 1; }

void ThreadPool::Run(int parts, Job job, void* arg) {
  State& s = *state_;
  const bool alone = parts <= 1 || parts > threads();
  if (alone || s.busy.exchange(true, std::memory_order_acquire)) {
    for (int part = 0; part < parts; ++part) job(arg, part);
    return;
  }
  const State::Ticket t{s.ticket.load(std::memory_order_relaxed).number + 1, static_cast<uint32_t>(parts)};
  s.parts[0].cpu.store(CurrentCpu(), std::memory_order_relaxed);
  s.unfinished.store(t.parts, std::memory_order_relaxed);
  s.job.store(job, std::memory_order_relaxed);
  s.arg.store(arg, std::memory_order_relaxed);
  s.ticket.store(t);
  s.WakeSleepers();
  const auto finished = [&] { return s.unfinished.load() == 0; };
  const uint32_t count = s.WorkFrom(t, 0);
  if (s.unfinished.fetch_sub(count) != count && !(s.awake && WaitAwake(finished, [] {}))) {
    std::unique_lock<std::mutex> lock(s.mutex);
    s.caller_sleeps.store(true);
    s.done.wait(lock, finished);
    s.caller_sleeps.store(false);
  }
  s.busy.store(false, std::memory_order_release);
}

}  // namespace pqi
