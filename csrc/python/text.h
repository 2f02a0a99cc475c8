// Python values that become C++ ones, with the errors that Python's own functions have.
#pragma once

#include <pybind11/pybind11.h>

#include <string>

#include "graph/graph.h"

namespace pqi::python {

// Gives a str as UTF-8. `what` names the argument in the TypeError for anything else; ValueError (UnicodeEncodeError) for lone surrogates.
inline std::string TextOf(const std::string& what, pybind11::handle value) {
  if (!PyUnicode_Check(value.ptr())) {
    throw pybind11::type_error(what + ": expected str, got " + Py_TYPE(value.ptr())->tp_name);
  }
  Py_ssize_t size = 0;
  const char* const text = PyUnicode_AsUTF8AndSize(value.ptr(), &size);
  if (!text) throw pybind11::error_already_set();
  return std::string(text, static_cast<size_t>(size));
}

// Gives a sequence of integers as a shape. TypeError where it is none; ValueError for a number that is no dimension.
inline ConcreteShape DimsOf(const std::string& what, pybind11::handle value) {
  if (!PySequence_Check(value.ptr()) || PyUnicode_Check(value.ptr())) {
    throw pybind11::type_error(what + ": expected a sequence of integers, got " + Py_TYPE(value.ptr())->tp_name);
  }
  ConcreteShape shape;
  for (const pybind11::handle item : pybind11::reinterpret_borrow<pybind11::sequence>(value)) {
    const auto number = pybind11::reinterpret_steal<pybind11::object>(PyNumber_Index(item.ptr()));
    if (!number) throw pybind11::error_already_set();
    int overflow = 0;
    const long long dim = PyLong_AsLongLongAndOverflow(number.ptr(), &overflow);
    if (overflow != 0) throw pybind11::value_error(what + ": dimension " + pybind11::repr(number).cast<std::string>() + " is too large");
    shape.push_back(dim);
  }
  return shape;
}

}  // namespace pqi::python
