// Which CPUs this process may use, and which one a thread runs on.
#pragma once

#include <sched.h>

#include "base/span.h"

namespace pqi {

// CPUs this process may use: affinity mask and cgroup quota (rounded up), at least 1.
int UsableCpus();

// The CPU that the calling thread runs on, -1 if the system does not say.
int CurrentCpu();

// A thread's affinity mask.
class CpuSet {
 public:
  // Of the calling thread. Empty if the system does not say or has more CPUs than a cpu_set_t names.
  static CpuSet OfThisThread();

  // Moves the calling thread to one of these CPUs that is not in `taken`, and keeps it off those until the next call. Does nothing if none
  // is left.
  void MoveOff(Span<const int> taken) const;

 private:
  cpu_set_t set_;
};

}  // namespace pqi
