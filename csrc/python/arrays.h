// numpy arrays at the border: strict dtypes, no silent conversion.
#pragma once

#include <pybind11/numpy.h>

#include <string>

#include "graph/graph.h"

namespace pqi::python {

// "float32", ">f4", "object", ...
std::string DTypeText(const pybind11::array& array);

// `value` as an array of exactly this dtype; TypeError names the argument, what was expected and what came. Layout is free.
pybind11::array RequireArray(const std::string& what, pybind11::handle value, DType dtype);

// The same elements, C-contiguous: the array itself where it is.
pybind11::array Contiguous(const pybind11::array& array);

ConcreteShape ShapeOf(const pybind11::array& array);

// A fresh, uninitialized array.
pybind11::array EmptyArray(DType dtype, const ConcreteShape& shape);

}  // namespace pqi::python
