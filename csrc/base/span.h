// A borrowed view of contiguous elements (std::span is C++20).
#pragma once

#include <cstddef>
#include <type_traits>
#include <vector>

namespace pqi {

template <typename T>
class Span {
 public:
  Span() = default;
  Span(T* data, size_t size) : data_(data), size_(size) {}
  template <typename U, typename = std::enable_if_t<std::is_same_v<const U, T>>>
  Span(const Span<U>& other) : data_(other.data()), size_(other.size()) {}  // NOLINT(google-explicit-constructor)
  template <typename U = T, typename = std::enable_if_t<std::is_const_v<U>>>
  Span(const std::vector<std::remove_const_t<T>>& v) : data_(v.data()), size_(v.size()) {}  // NOLINT
  Span(std::vector<std::remove_const_t<T>>& v) : data_(v.data()), size_(v.size()) {}        // NOLINT

  T* data() const { return data_; }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  T* begin() const { return data_; }
  T* end() const { return data_ + size_; }
  T& operator[](size_t i) const { return data_[i]; }

 private:
  T* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace pqi
