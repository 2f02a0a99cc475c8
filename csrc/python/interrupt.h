// What ends a run early: a flag of the caller's, and signals that Python answers with an exception.
#pragma once

#include <pybind11/pybind11.h>

#include <atomic>
#include <chrono>

#include "runtime/session.h"

namespace pqi::python {

// A switch that any thread may turn.
struct CancelFlag {
  std::atomic<bool> set{false};
};

// Watches over one run that has given the lock up (WithoutGil). Every kInterval it takes the lock back for a moment and lets Python handle
// signals, so that Ctrl-C ends a run between two layers.
class Watch {
 public:
  explicit Watch(const CancelFlag* flag) : flag_(flag), next_(Clock::now() + kInterval) {}

  // The options of the run: `max_memory`, and this object as what is asked before each layer.
  RunOptions Options(size_t max_memory);
  // Throws the Python exception that ended the run, if one did.
  void Rethrow() const;

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr auto kInterval = std::chrono::milliseconds(50);

  bool Cancelled();

  const CancelFlag* flag_;
  Clock::time_point next_;
  bool raised_ = false;
};

}  // namespace pqi::python
