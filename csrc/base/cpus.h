// Which CPUs this process may use, and which one a thread runs on.
#pragma once

#include <sched.h>

#include <string>

namespace pqi {

// CPUs this process may use: affinity mask and cgroup quota (rounded up), at least 1.
int UsableCpus();

// CPUs by the quota of a cgroup whose files lie in this folder, rounded up; 0 if there is no limit. Version 2 says "max 100000" or "50000
// 100000" in one file, quota and period in microseconds; version 1 has a file for each, and says -1 for no limit.
int QuotaCpus(const std::string& cgroup);

// The CPU that the calling thread runs on; -1 if the system does not say.
int CurrentCpu();

// A thread's affinity mask.
class CpuSet {
 public:
  // The calling thread's mask. It is empty if the system does not say or has more CPUs than a cpu_set_t names.
  static CpuSet OfThisThread();

  void Remove(int cpu);
  // Makes this the mask of the calling thread, which moves to one of these CPUs if it must. Does nothing if the set is empty.
  void BindThisThread() const;

 private:
  cpu_set_t set_;
};

}  // namespace pqi
