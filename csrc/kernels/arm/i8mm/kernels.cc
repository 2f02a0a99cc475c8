// The kernel set for NEON with the int8 matrix extension. It is compiled with flags for these instructions, so nothing here runs before
// base/isa.h has said that the CPU has them.
#include "kernels/arm/i8mm/simd.h"
#include "kernels/generic/make_kernel_set.h"
#include "kernels/sets.h"

namespace pqi::kernels {

constexpr KernelSet kI8mmKernels = MakeKernelSet<I8mm>(Isa::kI8mm);

}  // namespace pqi::kernels
