#include "python/ports.h"

#include <string>

#include "base/text.h"
#include "python/text.h"

namespace py = pybind11;

namespace pqi::python {

std::vector<py::object> InInputOrder(const Model& model, const py::object& mapping) {
  if (!PyMapping_Check(mapping.ptr()) || PyUnicode_Check(mapping.ptr()) || !py::hasattr(mapping, "keys")) {
    throw py::type_error(std::string("inputs: expected a mapping from names, got ") + Py_TYPE(mapping.ptr())->tp_name);
  }
  const py::dict items(mapping);
  const auto& ports = model.graph().inputs;
  std::string names;
  std::vector<py::object> ordered;
  for (const Port& port : ports) names += (names.empty() ? "" : ", ") + Quoted(port.name);
  for (const auto& [key, value] : items) {
    const std::string name = TextOf("name of an input", key);
    if (model.InputIndex(name) < 0) throw py::value_error("no input named " + Quoted(name) + "; the model's inputs are " + names);
  }
  for (const Port& port : ports) {
    const py::str key(port.name);
    if (!items.contains(key)) throw py::value_error("input " + Quoted(port.name) + " is missing; the model's inputs are " + names);
    ordered.push_back(items[key]);
  }
  return ordered;
}

}  // namespace pqi::python
