// The classes of pyqinfer._core that run models.
#pragma once

#include <pybind11/pybind11.h>

namespace pqi::python {

// Adds Session and CancelFlag to the module.
void AddSession(pybind11::module_& m);

}  // namespace pqi::python
