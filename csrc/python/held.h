// Arguments that are objects of this module's own classes.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>

namespace pqi::python {

// An object that its class has made. `Class.__new__(Class)` makes one without anything in it, for which pybind11 would give memory that
// nobody has written: such an object is no argument of the right type (TypeError).
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
