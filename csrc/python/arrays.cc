#include "python/arrays.h"

namespace py = pybind11;

namespace pqi::python {

std::string DTypeText(const py::array& array) { return py::str(static_cast<py::object>(array.dtype())); }

py::array RequireArray(const std::string& what, py::handle value, DType dtype) {
  if (!py::isinstance<py::array>(value)) {
    throw py::type_error(what + ": expected a numpy array, got " +
                         py::str(py::type::handle_of(value).attr("__name__")).cast<std::string>());
  }
  auto array = py::reinterpret_borrow<py::array>(value);
  // EquivTypes inside: another byte order is another dtype.
  const bool matches = dtype == DType::kF32  ? py::isinstance<py::array_t<float, 0>>(array)
                       : dtype == DType::kU8 ? py::isinstance<py::array_t<uint8_t, 0>>(array)
                                             : py::isinstance<py::array_t<int32_t, 0>>(array);
  if (!matches) {
    const char* expected = dtype == DType::kF32 ? "float32" : dtype == DType::kU8 ? "uint8" : "int32";
    throw py::type_error(what + ": expected dtype " + expected + ", got " + DTypeText(array));
  }
  return array;
}

py::array Contiguous(const py::array& array) {
  if (array.flags() & py::array::c_style) return array;
  return py::array::ensure(array, py::array::c_style);
}

ConcreteShape ShapeOf(const py::array& array) { return ConcreteShape(array.shape(), array.shape() + array.ndim()); }

py::array EmptyArray(DType dtype, const ConcreteShape& shape) {
  const std::vector<py::ssize_t> dims(shape.begin(), shape.end());
  if (dtype == DType::kF32) return py::array_t<float>(dims);
  return py::array_t<uint8_t>(dims);
}

}  // namespace pqi::python
