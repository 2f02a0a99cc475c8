#include "base/parallel.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
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

struct ThreadPool::State {
  uint64_t generation = ForkGeneration();
  std::vector<std::thread> workers;
  std::atomic<bool> busy{false};

  std::mutex mutex;
  std::condition_variable start, done;
  // All below under `mutex`.
  uint64_t epoch = 0;
  bool stop = false;
  Job job = nullptr;
  void* arg = nullptr;
  int parts = 0;
  int next = 0;     // first part that nobody has taken
  int running = 0;  // parts taken and not finished

  // Takes and runs parts until none is left. `lock` is held on entry and on exit.
  void Work(std::unique_lock<std::mutex>* lock) {
    while (next < parts) {
      const int part = next++;
      ++running;
      lock->unlock();
      job(arg, part);
      lock->lock();
      --running;
    }
  }

  void WorkerMain() {
    FpEnvScope::SetDefault();
    uint64_t seen = 0;
    std::unique_lock<std::mutex> lock(mutex);
    for (;;) {
      start.wait(lock, [&] { return stop || epoch != seen; });
      if (stop) return;
      seen = epoch;
      Work(&lock);
      if (running == 0) done.notify_one();
    }
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  state_->workers.reserve(static_cast<size_t>(std::max(threads - 1, 0)));
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
  {
    std::unique_lock<std::mutex> lock(s.mutex);
    s.job = job;
    s.arg = arg;
    s.parts = parts;
    s.next = 0;
    ++s.epoch;
    s.start.notify_all();
    s.Work(&lock);
    s.done.wait(lock, [&] { return s.running == 0; });
  }
  s.busy.store(false, std::memory_order_release);
}

}  // namespace pqi
