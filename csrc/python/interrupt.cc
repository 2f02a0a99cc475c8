#include "python/interrupt.h"

#include "python/gil.h"

namespace py = pybind11;

namespace pqi::python {

RunOptions Watch::Options(size_t max_memory) {
  RunOptions options;
  options.max_memory = max_memory;
  options.cancelled = [](void* watch) { return static_cast<Watch*>(watch)->Cancelled(); };
  options.context = this;
  return options;
}

bool Watch::Cancelled() {
  if (flag_ && flag_->set.load(std::memory_order_relaxed)) return true;
  if (Clock::now() < next_) return false;
  PyThreadState* const state = PyGILState_GetThisThreadState();
  TakeGilBack(state);
  raised_ = PyErr_CheckSignals() != 0;  // handles them on the main thread only, elsewhere it does nothing
  PyEval_SaveThread();
  next_ = Clock::now() + kInterval;
  return raised_;
}

void Watch::Rethrow() const {
  if (raised_) throw py::error_already_set();
}

}  // namespace pqi::python
