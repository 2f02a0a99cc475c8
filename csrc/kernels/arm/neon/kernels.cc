// The kernel set for NEON, which every CPU of this architecture has.
#include "kernels/arm/neon/simd.h"
#include "kernels/generic/make_kernel_set.h"
#include "kernels/sets.h"

namespace pqi::kernels {

constexpr KernelSet kNeonKernels = MakeKernelSet<Neon>(Isa::kNeon);

}  // namespace pqi::kernels
