// Mappings from the names of a model's inputs.
#pragma once

#include <pybind11/pybind11.h>

#include <vector>

#include "runtime/model.h"

namespace pqi::python {

// Gives the items of a mapping in the order of the model's inputs. TypeError where it is no mapping from strings; ValueError if the names
// are not exactly those.
std::vector<pybind11::object> InInputOrder(const Model& model, const pybind11::object& mapping);

}  // namespace pqi::python
