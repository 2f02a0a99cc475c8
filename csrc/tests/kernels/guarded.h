// Memory between two pages without access, so that a read or write out of bounds is a crash.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <vector>

namespace pqi::test {

// `size` bytes that end (or begin) exactly at a forbidden page. A buffer can touch only one of its two guards, so tests use both
// placements. It is filled with a pattern that no test expects as a result.
class GuardedBytes {
 public:
  enum Placement { kAtEnd, kAtBegin };
  static constexpr uint8_t kFill = 0xA5;

  GuardedBytes(size_t size, Placement placement) : size_(size) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t usable = (size + page - 1) / page * page;
    mapped_ = usable + 2 * page;
    void* memory = mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    base_ = static_cast<uint8_t*>(memory);
    if (usable > 0 && mprotect(base_ + page, usable, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
    data_ = base_ + page + (placement == kAtEnd ? usable - size : 0);
    if (size > 0) std::memset(data_, kFill, size);
  }
  ~GuardedBytes() { munmap(base_, mapped_); }
  GuardedBytes(const GuardedBytes&) = delete;
  GuardedBytes& operator=(const GuardedBytes&) = delete;

  uint8_t* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  size_t size_, mapped_ = 0;
  uint8_t* base_ = nullptr;
  uint8_t* data_ = nullptr;
};

// Guarded memory for n elements of T. Sizes are multiples of sizeof(T), so both placements suit T's alignment.
template <typename T>
class Guarded {
 public:
  explicit Guarded(size_t n, GuardedBytes::Placement placement = GuardedBytes::kAtEnd) : bytes_(n * sizeof(T), placement), n_(n) {}
  template <typename Source>
  Guarded(const Source& source, GuardedBytes::Placement placement) : Guarded(source.size(), placement) {
    if (n_ > 0) std::memcpy(data(), source.data(), n_ * sizeof(T));
  }
  T* data() const { return reinterpret_cast<T*>(bytes_.data()); }
  size_t size() const { return n_; }
  T& operator[](size_t i) const { return data()[i]; }

 private:
  GuardedBytes bytes_;
  size_t n_;
};

// What memory filled by GuardedBytes holds after `count` rows were written to it, `stride` bytes apart.
inline std::vector<uint8_t> Spaced(const uint8_t* rows, size_t count, size_t row_bytes, size_t stride) {
  std::vector<uint8_t> out((count - 1) * stride + row_bytes, GuardedBytes::kFill);
  for (size_t i = 0; i < count; ++i) std::memcpy(out.data() + i * stride, rows + i * row_bytes, row_bytes);
  return out;
}

}  // namespace pqi::test
