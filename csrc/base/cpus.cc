#include "base/cpus.h"

#include <algorithm>
#include <cstdio>
#include <thread>

namespace pqi {
namespace {

// CPUs by the quota of the process's cgroup, rounded up; 0 if there is no limit or no cgroup v2. The file says "max 100000" or "50000
// 100000", quota and period in microseconds.
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

int UsableCpus() {
  cpu_set_t set;
  int cpus = 1;
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    cpus = CPU_COUNT(&set);
  } else {  // the machine has more CPUs than a cpu_set_t names
    cpus = static_cast<int>(std::thread::hardware_concurrency());
  }
  if (const int quota = CgroupCpus(); quota > 0) cpus = std::min(cpus, quota);
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
