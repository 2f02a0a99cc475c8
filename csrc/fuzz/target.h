// What every fuzz target is made of: one function, and words for what it must never see.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/status.h"

namespace pqi::fuzz {

// Defined by each target: takes whatever the fuzzer made up. std::bad_alloc may leave it.
void One(const uint8_t* data, size_t size);

// Prints what was wrong and aborts.
[[noreturn]] void Die(const char* what, const std::string& detail);

inline void Require(bool holds, const char* what, const std::string& detail) {
  if (!holds) Die(what, detail);
}

// Holds an error of a file that was read to what the loader promises: one of three codes, with a message. A file that is written may also
// break the rules of its arguments.
void RequireGoodError(const Status& status, bool writing);

// Counted for the line that a target prints at its end.
struct Counts {
  uint64_t executions = 0, loaded = 0, runs = 0;
};
Counts& Counted();

// Draws numbers from what is left of the input, and zeros behind its end.
class Reader {
 public:
  Reader(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  size_t left() const { return size_; }
  uint8_t Byte() {
    if (size_ == 0) return 0;
    --size_;
    return *data_++;
  }
  // True about `times` out of 256.
  bool Rarely(int times) { return Byte() >= 256 - times; }

 private:
  const uint8_t* data_;
  size_t size_;
};

// Numbers of a fixed sequence for each seed.
class Random {
 public:
  explicit Random(uint32_t seed) : state_(seed * 2654435761u | 1) {}

  uint32_t Next() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 17;
    state_ ^= state_ << 5;
    return state_;
  }

 private:
  uint32_t state_;
};

}  // namespace pqi::fuzz
