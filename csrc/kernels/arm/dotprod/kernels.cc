// The kernel set for NEON with the dot product. It is compiled with flags for these instructions, so nothing here runs before base/isa.h
// has said that the CPU has them.
#include "kernels/arm/dotprod/simd.h"
#include "kernels/generic/make_kernel_set.h"
#include "kernels/sets.h"

namespace pqi::kernels {

constexpr KernelSet kDotprodKernels = MakeKernelSet<Dotprod>(Isa::kDotprod);

}  // namespace pqi::kernels
