// The kernel set for AVX2 + FMA. It is compiled with flags for these instructions, so nothing here runs before base/isa.h has said that the
// CPU has them.
#include "kernels/generic/make_kernel_set.h"
#include "kernels/sets.h"
#include "kernels/x86/avx2/simd.h"

namespace pqi::kernels {

constexpr KernelSet kAvx2Kernels = MakeKernelSet<Avx2>(Isa::kAvx2);

}  // namespace pqi::kernels
