// The kernel sets of base/isa.inc that are compiled for this architecture, for the files that define and dispatch them.
#pragma once

#include "kernels/kernel_set.h"

// The architectures of rows: each macro keeps what is made of a row, or drops it.
#define PQI_ANY(...) __VA_ARGS__
#if defined(__x86_64__)
#define PQI_X86(...) __VA_ARGS__
#define PQI_ARM(...)
#elif defined(__aarch64__)
#define PQI_X86(...)
#define PQI_ARM(...) __VA_ARGS__
#endif

namespace pqi::kernels {

#define PQI_ISA(enumerator, name, set, architecture, ...) architecture(extern const KernelSet set;)
#include "base/isa.inc"
#undef PQI_ISA

}  // namespace pqi::kernels
