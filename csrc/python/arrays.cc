#include "python/arrays.h"

#include "base/text.h"
#include "python/errors.h"

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

py::array Contiguous(const char* kind, const std::string& name, const py::array& array) {
  if (array.flags() & py::array::c_style) return array;
  // py::array::ensure would hide numpy's error and give an object without an array.
  constexpr int kCContiguous = py::detail::npy_api::NPY_ARRAY_C_CONTIGUOUS_, kPlain = py::detail::npy_api::NPY_ARRAY_ENSUREARRAY_;
  PyObject* const copy = py::detail::npy_api::get().PyArray_FromAny_(array.ptr(), nullptr, 0, 0, kCContiguous | kPlain, nullptr);
  if (!copy) {
    if (PyErr_ExceptionMatches(PyExc_MemoryError))
      PyErr_Clear(), Raise(NoMemory(std::string(kind) + " " + Quoted(name) + ": no memory for a copy in C order, " +
                                    std::to_string(array.nbytes()) + " bytes"));
    throw py::error_already_set();
  }
  return py::reinterpret_steal<py::array>(copy);
}

ConcreteShape ShapeOf(const py::array& array) { return ConcreteShape(array.shape(), array.shape() + array.ndim()); }

py::array EmptyArray(const char* kind, const std::string& name, DType dtype, const ConcreteShape& shape) {
  const std::vector<py::ssize_t> dims(shape.begin(), shape.end());
  try {
    switch (dtype) {
      case DType::kF32:
        return py::array_t<float>(dims);
      case DType::kI32:
        return py::array_t<int32_t>(dims);
      case DType::kU8:
        return py::array_t<uint8_t>(dims);
    }
  } catch (const py::error_already_set& error) {
    if (!error.matches(PyExc_MemoryError)) throw;
  }
  size_t bytes = DTypeSize(dtype);
  for (int64_t d : shape) bytes *= static_cast<size_t>(d);
  Raise(NoMemory(std::string(kind) + " " + Quoted(name) + ": no memory for an array of shape " + DimsText(shape) + ", " +
                 std::to_string(bytes) + " bytes"));
}

}  // namespace pqi::python
