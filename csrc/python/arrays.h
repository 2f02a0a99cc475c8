// numpy arrays at the border: strict dtypes, no silent conversion.
#pragma once

#include <pybind11/numpy.h>

#include <string>

#include "graph/graph.h"

namespace pqi::python {

// A dtype's name for messages: "float32", ">f4", "object".
std::string DTypeText(const pybind11::array& array);

// Gives `value` as an array of exactly this dtype, in any memory layout; TypeError names the argument, what was expected and what came.
pybind11::array RequireArray(const std::string& what, pybind11::handle value, DType dtype);

// Gives the elements of an array in C order: the array itself where it has them so. MemoryError names `what`.
pybind11::array Contiguous(const std::string& what, const pybind11::array& array);

ConcreteShape ShapeOf(const pybind11::array& array);

// Makes an array without initializing its elements. MemoryError names `what`.
pybind11::array EmptyArray(const std::string& what, DType dtype, const ConcreteShape& shape);

}  // namespace pqi::python
