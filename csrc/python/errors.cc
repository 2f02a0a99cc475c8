#include "python/errors.h"

namespace py = pybind11;

namespace pqi::python {

void Raise(const Status& status) {
  const auto own = [](const char* name) { return py::module_::import("pyqinfer.errors").attr(name); };
  py::object type;
  switch (status.code()) {
    case Code::kInvalidArgument:
      type = py::reinterpret_borrow<py::object>(PyExc_ValueError);
      break;
    case Code::kModelFormat:
      type = own("ModelFormatError");
      break;
    case Code::kIntegrity:
      type = own("IntegrityError");
      break;
    case Code::kUnsupported:
      type = own("UnsupportedError");
      break;
    case Code::kNoMemory:
      type = py::reinterpret_borrow<py::object>(PyExc_MemoryError);
      break;
    case Code::kCancelled:
      type = own("CancelledError");
      break;
    case Code::kIo:
      type = py::reinterpret_borrow<py::object>(PyExc_OSError);
      break;
    case Code::kOk:
    case Code::kInternal:
      type = py::reinterpret_borrow<py::object>(PyExc_RuntimeError);
      break;
  }
  if (status.code() == Code::kIo && status.os_error() != 0) {
    // OSError(errno, text) becomes FileNotFoundError, PermissionError, ...
    PyErr_SetObject(type.ptr(), py::make_tuple(status.os_error(), status.message()).ptr());
  } else {
    PyErr_SetObject(type.ptr(), py::str(status.message()).ptr());
  }
  throw py::error_already_set();
}

}  // namespace pqi::python
