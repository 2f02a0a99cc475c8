#include "base/parallel.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "base/fork.h"
#include "base/fpenv.h"

namespace pqi {
namespace {

std::atomic<uint64_t> g_fork_generation{0};

void CountFork() { g_fork_generation.fetch_add(1, std::memory_order_relaxed); }

// Registered when the library is loaded, so that no fork can come before it.
[[maybe_unused]] const int g_registered = pthread_atfork(nullptr, nullptr, CountFork);

// "max 100000" or "50000 100000": quota and period in microseconds. 0 = no limit, or not a cgroup v2 system.
int CgroupCpus() {
  std::FILE* f = std::fopen("/sys/fs/cgroup/cpu.max", "re");
  if (!f) return 0;
  long quota = 0, period = 0;
  const int fields = std::fscanf(f, "%ld %ld", &quota, &period);
  std::fclose(f);
  if (fields != 2 || quota <= 0 || period <= 0) return 0;
  return static_cast<int>((quota + period - 1) / period);
}

// One wait in a loop: tells the core that this thread waits, so that it uses less power and leaves a sibling its resources.
void Relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Calls `ready` until it says true, at most kAwake long; returns what it said last. After a while other threads are let run in between.
template <typename Ready>
bool WaitAwake(Ready&& ready) {
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
    if (waited > kAlone) sched_yield();
  }
}

}  // namespace

uint64_t ForkGeneration() { return g_fork_generation.load(std::memory_order_relaxed); }

int UsableCpus() {
  cpu_set_t set;
  int cpus = 1;
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    cpus = CPU_COUNT(&set);
  } else {  // more CPUs than a cpu_set_t names
    cpus = static_cast<int>(std::thread::hardware_concurrency());
  }
  if (const int quota = CgroupCpus(); quota > 0) cpus = std::min(cpus, quota);
  return std::max(cpus, 1);
}

// A job is published by one store of `ticket`, and its parts are taken by compare-and-exchange on it. Whoever waits, for a job or for the
// end of one, does so awake for a while and then asleep. A waiter that goes to sleep says so (`sleepers`, `caller_sleeps`) and then looks
// once more; a waker changes the state and then looks for sleepers. All four are sequentially consistent, so one of the two sees the other.
struct ThreadPool::State {
  const uint64_t generation = ForkGeneration();
  bool awake = false;  // threads may wait awake: there is a CPU for each
  std::vector<std::thread> workers;
  std::atomic<bool> busy{false};

  // High half: number of the job. Low half: parts that nobody has taken; the next to be taken is this less one.
  std::atomic<uint64_t> ticket{0};
  std::atomic<Job> job{nullptr};
  std::atomic<void*> arg{nullptr};
  std::atomic<int> unfinished{0};
  std::atomic<int> runs{0};  // in progress: more jobs are to come soon

  std::mutex mutex;
  std::condition_variable start, done;
  std::atomic<int> sleepers{0};
  std::atomic<bool> caller_sleeps{false};
  bool stop = false;   // under `mutex`
  uint64_t calls = 0;  // under `mutex`: runs begun, each a reason to wake up

  bool HasParts() const { return static_cast<uint32_t>(ticket.load()) != 0; }

  // Takes one part and runs it; false if there was none.
  bool Work() {
    uint64_t t = ticket.load();
    while (static_cast<uint32_t>(t) != 0) {
      // Of the job of `t` if the exchange succeeds: a job is replaced only when all its parts are taken.
      const Job j = job.load(std::memory_order_relaxed);
      void* const a = arg.load(std::memory_order_relaxed);
      if (!ticket.compare_exchange_weak(t, t - 1)) continue;
      j(a, static_cast<int>(static_cast<uint32_t>(t) - 1));
      if (unfinished.fetch_sub(1) == 1 && caller_sleeps.load()) {
        { const std::lock_guard<std::mutex> lock(mutex); }
        done.notify_one();
      }
      return true;
    }
    return false;
  }

  void WorkerMain() {
    FpEnvScope::SetDefault();
    uint64_t seen = 0;
    for (;;) {
      while (Work()) {
      }
      if (awake && runs.load(std::memory_order_relaxed) > 0) {
        bool more = false;
        WaitAwake([&] { return (more = HasParts()) || runs.load(std::memory_order_relaxed) == 0; });
        if (more) continue;
      }
      std::unique_lock<std::mutex> lock(mutex);
      sleepers.fetch_add(1);
      start.wait(lock, [&] { return stop || HasParts() || calls != seen; });
      sleepers.fetch_sub(1);
      if (stop) return;
      seen = calls;
    }
  }

  void WakeSleepers() {
    if (sleepers.load() == 0) return;
    { const std::lock_guard<std::mutex> lock(mutex); }
    start.notify_all();
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  if (threads <= 1) return;
  state_->awake = threads <= UsableCpus();
  state_->workers.reserve(static_cast<size_t>(threads - 1));
  try {
    for (int i = 1; i < threads; ++i) state_->workers.emplace_back([s = state_.get()] { s->WorkerMain(); });
  } catch (const std::system_error&) {
    // The system's thread limit is reached: the pool works with what it has.
  }
}

ThreadPool::~ThreadPool() {
  if (state_->generation != ForkGeneration()) {
    // Parent's threads: not ours to join, and the mutex may be held for ever. Give the memory up.
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
  const bool alone = parts <= 1 || s.workers.empty() || s.generation != ForkGeneration();
  if (alone || s.busy.exchange(true, std::memory_order_acquire)) {
    for (int part = 0; part < parts; ++part) job(arg, part);
    return;
  }
  s.job.store(job, std::memory_order_relaxed);
  s.arg.store(arg, std::memory_order_relaxed);
  s.unfinished.store(parts);
  s.ticket.store(((s.ticket.load() >> 32) + 1) << 32 | static_cast<uint32_t>(parts));
  s.WakeSleepers();
  while (s.Work()) {
  }
  const auto finished = [&] { return s.unfinished.load() == 0; };
  if (!finished() && !(s.awake && WaitAwake(finished))) {
    std::unique_lock<std::mutex> lock(s.mutex);
    s.caller_sleeps.store(true);
    s.done.wait(lock, finished);
    s.caller_sleeps.store(false);
  }
  s.busy.store(false, std::memory_order_release);
}

ThreadPool::Awake::Awake(ThreadPool* pool) : pool_(pool) {
  State& s = *pool_->state_;
  if (s.workers.empty() || s.generation != ForkGeneration()) return;
  s.runs.fetch_add(1);
  if (!s.awake) return;
  {
    const std::lock_guard<std::mutex> lock(s.mutex);
    ++s.calls;
  }
  s.start.notify_all();
}

ThreadPool::Awake::~Awake() {
  State& s = *pool_->state_;
  if (!s.workers.empty() && s.generation == ForkGeneration()) s.runs.fetch_sub(1);
}

}  // namespace pqi
