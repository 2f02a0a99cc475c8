#include "base/cpus.h"

#include <algorithm>
#include <cstdio>
#include <string>
#include <thread>

namespace pqi {
namespace {

// Reads up to `count` numbers from the start of a file; gives how many there were.
int ReadNumbers(const std::string& path, long* numbers, int count) {
  std::FILE* f = std::fopen(path.c_str(), "re");
  if (!f) return 0;
  int read = 0;
  while (read < count && std::fscanf(f, "%ld", &numbers[read]) == 1) ++read;
  std::fclose(f);
  return read;
}

}  // namespace

int QuotaCpus(const std::string& cgroup) {
  long quota_and_period[2] = {0, 0};
  if (ReadNumbers(cgroup + "/cpu.max", quota_and_period, 2) != 2 &&
      (ReadNumbers(cgroup + "/cpu/cpu.cfs_quota_us", &quota_and_period[0], 1) != 1 ||
       ReadNumbers(cgroup + "/cpu/cpu.cfs_period_us", &quota_and_period[1], 1) != 1)) {
    return 0;
  }
  const long quota = quota_and_period[0], period = quota_and_period[1];
  if (quota <= 0 || period <= 0) return 0;
  return static_cast<int>(quota / period + (quota % period != 0));
}

int UsableCpus() {
  cpu_set_t set;
  int cpus = 1;
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    cpus = CPU_COUNT(&set);
  } else {  // the machine has more CPUs than a cpu_set_t names
    cpus = static_cast<int>(std::thread::hardware_concurrency());
  }
  if (const int quota = QuotaCpus("/sys/fs/cgroup"); quota > 0) cpus = std::min(cpus, quota);
  return std::max(cpus, 1);
}

int CurrentCpu() { return sched_getcpu(); }

CpuSet CpuSet::OfThisThread() {
  CpuSet cpus;
  if (sched_getaffinity(0, sizeof cpus.set_, &cpus.set_) != 0) CPU_ZERO(&cpus.set_);
  return cpus;
}

void CpuSet::Remove(int cpu) {
  if (cpu >= 0 && cpu < CPU_SETSIZE) CPU_CLR(cpu, &set_);
}

void CpuSet::BindThisThread() const {
  // A thread is a task with a mask of its own: 0 names the calling thread. If the system refuses, the thread stays where it is.
  if (CPU_COUNT(&set_) > 0) static_cast<void>(sched_setaffinity(0, sizeof set_, &set_));
}

}  // namespace pqi
