// Declarations of the kernel sets in list.inc, for the files that define and dispatch them.
#pragma once

#include "kernels/kernel_set.h"

namespace pqi::kernels {

#define PQI_KERNEL_SET(isa, name) extern const KernelSet name;
#include "kernels/list.inc"
#undef PQI_KERNEL_SET

}  // namespace pqi::kernels
