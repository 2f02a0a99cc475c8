// Kernels made wrong on purpose, for the tests of the self check.
#pragma once

#include <cstdint>

#include "kernels/kernel_set.h"

namespace pqi::test {

// The set whose copy is broken, and what each broken kernel, having called it, does to the first result.
inline const kernels::KernelSet* original = nullptr;
inline void Spoil(void* y) { static_cast<uint8_t*>(y)[0] ^= 0x41; }

struct Breakage {
  const char* name;  // the kernel that the check must name
  void (*apply)(kernels::KernelSet* set);
};

}  // namespace pqi::test
