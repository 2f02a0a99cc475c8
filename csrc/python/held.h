// Arguments that are objects of this module's own classes.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <new>

namespace pqi::python {

// An object that its class has made. A subclass can use itself before it calls the __init__ of its class, and pybind11 would then give memory
// that nobody has written: such an object is no argument of the right type (TypeError).
template <typename T>
class Held {
 public:
  T& operator*() const { return *object_; }
  T* operator->() const { return object_.get(); }
  const std::shared_ptr<T>& get() const { return object_; }

 private:
  friend struct pybind11::detail::type_caster<Held<T>>;
  std::shared_ptr<T> object_;
};

// pybind11 uses a new object without looking whether there was memory for one. These two take the places of its ways to make one: the first
// throws inside pybind11's own functions, where that becomes a MemoryError, and the second is what Python calls.
inline PyObject* AllocateOrThrow(PyTypeObject* type, Py_ssize_t items) {
  PyObject* const object = PyType_GenericAlloc(type, items);
  if (!object) throw pybind11::error_already_set();
  return object;
}
inline PyObject* NewInstance(PyTypeObject* type, PyObject*, PyObject*) noexcept {
  try {
    return pybind11::detail::make_new_instance(type);
  } catch (pybind11::error_already_set& error) {
    error.restore();
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  }
  return nullptr;
}

// Makes a class whose objects are made so.
template <typename T>
auto MakeClass(pybind11::module_& m, const char* name) {
  pybind11::class_<T, std::shared_ptr<T>> made(m, name);
  auto* const type = reinterpret_cast<PyTypeObject*>(made.ptr());
  type->tp_alloc = AllocateOrThrow;
  type->tp_new = NewInstance;
  return made;
}

}  // namespace pqi::python

namespace pybind11::detail {

template <typename T>
struct type_caster<pqi::python::Held<T>> {
  PYBIND11_TYPE_CASTER(pqi::python::Held<T>, type_caster<std::shared_ptr<T>>::name);

  bool load(handle source, bool convert) {
    if (!isinstance<T>(source)) return false;
    if (!reinterpret_cast<instance*>(source.ptr())->get_value_and_holder().holder_constructed()) return false;
    type_caster<std::shared_ptr<T>> object;
    if (!object.load(source, convert)) return false;
    value.object_ = static_cast<std::shared_ptr<T>>(object);
    return true;
  }
};

}  // namespace pybind11::detail
