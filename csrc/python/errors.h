// Status to Python exceptions.
#pragma once

#include <pybind11/pybind11.h>

#include "base/status.h"

namespace pqi::python {

// Sets the Python exception that stands for the status (docs of pyqinfer.errors) and throws. Needs the GIL.
[[noreturn]] void Raise(const Status& status);

template <typename T>
T Unwrap(Result<T> result) {
  if (!result.ok()) Raise(result.status());
  return std::move(result).value();
}

inline void Unwrap(const Status& status) {
  if (!status.ok()) Raise(status);
}

}  // namespace pqi::python
