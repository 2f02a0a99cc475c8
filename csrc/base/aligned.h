// Memory on 64-byte boundaries: a cache line, and the widest vector register.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <type_traits>
#include <utility>

#include "base/checked.h"
#include "base/span.h"

namespace pqi {

inline constexpr size_t kAlignment = 64;

// Zeroed memory on a kAlignment boundary; nullptr for 0 bytes. Throws std::bad_alloc. Out of line, so that no translation unit
// compiled for a particular instruction set carries a copy.
void* AllocateAligned(size_t bytes);
void FreeAligned(void* memory) noexcept;

// An owned array of trivial elements, zeroed at birth, with `padding_bytes` of zeros after the last element that belong to nobody:
// room for a kernel that is allowed to read past the end of the engine's own memory.
template <typename T>
class AlignedBuffer {
  static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>);

 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(size_t size, size_t padding_bytes = 0) : size_(size) {
    size_t bytes = 0;
    if (!CheckedMul(size, sizeof(T), &bytes) || !CheckedAdd(bytes, padding_bytes, &bytes)) throw std::bad_alloc();
    data_ = static_cast<T*>(AllocateAligned(bytes));
  }
  AlignedBuffer(AlignedBuffer&& other) noexcept : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~AlignedBuffer() { FreeAligned(data_); }

  static AlignedBuffer CopyOf(Span<const T> source) {
    AlignedBuffer copy(source.size());
    if (!source.empty()) std::memcpy(copy.data_, source.data(), source.size() * sizeof(T));
    return copy;
  }

  // Makes room for at least `size` elements. Where that takes new memory the old contents are lost.
  void Reserve(size_t size) {
    if (size_ >= size) return;
    *this = AlignedBuffer();  // first give back, then take: the peak is one of them
    *this = AlignedBuffer(size);
  }

  T* data() { return data_; }
  const T* data() const { return data_; }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }
  T* begin() { return data_; }
  T* end() { return data_ + size_; }
  const T* begin() const { return data_; }
  const T* end() const { return data_ + size_; }
  Span<T> span() { return {data_, size_}; }
  Span<const T> span() const { return {data_, size_}; }

 private:
  T* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace pqi
