// The kernel set for AVX-512 without VNNI. It is compiled with flags for these instructions, so nothing here runs before base/isa.h has
// said that the CPU has them.
#include "kernels/generic/make_kernel_set.h"
#include "kernels/sets.h"
#include "kernels/x86/avx512/simd.h"

namespace pqi::kernels {

constexpr KernelSet kAvx512Kernels = MakeKernelSet<Avx512>(Isa::kAvx512);

}  // namespace pqi::kernels
