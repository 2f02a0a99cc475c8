// The kernel set for AVX-512 + VNNI. It is compiled with flags for these instructions, so nothing here runs before base/isa.h has said that
// the CPU has them.
#include "kernels/generic/make_kernel_set.h"
#include "kernels/sets.h"
#include "kernels/x86/avx512vnni/simd.h"

namespace pqi::kernels {

constexpr KernelSet kAvx512VnniKernels = MakeKernelSet<Avx512Vnni>(Isa::kAvx512Vnni);

}  // namespace pqi::kernels
