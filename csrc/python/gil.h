// Work without the interpreter's lock.
#pragma once

#include <pybind11/pybind11.h>
#include <unistd.h>

namespace pqi::python {

// Takes the lock back. Where the interpreter has ended meanwhile (a daemon thread at exit), Python before 3.14 ends the thread by unwinding
// its stack: through destructors that give back Python objects without the lock, and that must not be left so, which aborts the process.
// Such a thread waits here for the end of the process instead, which is what later versions do.
inline void TakeGilBack(PyThreadState* state) {
  try {
    PyEval_RestoreThread(state);
  } catch (...) {
    for (;;) pause();
  }
}

// Calls fn without the lock and gives what it gives. The one way to give the lock up here: pybind11's guard takes it back in a destructor,
// which must not unwind.
template <typename Fn>
auto WithoutGil(Fn&& fn) {
  PyThreadState* const state = PyEval_SaveThread();
  try {
    auto result = fn();
    TakeGilBack(state);
    return result;
  } catch (...) {
    TakeGilBack(state);
    throw;
  }
}

}  // namespace pqi::python
