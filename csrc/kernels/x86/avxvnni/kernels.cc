// The kernel set for AVX-VNNI. It is compiled with flags for these instructions, so nothing here runs before base/isa.h has said that the
// CPU has them.
#include "kernels/generic/make_kernel_set.h"
#include "kernels/sets.h"
#include "kernels/x86/avxvnni/simd.h"

namespace pqi::kernels {

constexpr KernelSet kAvxVnniKernels = MakeKernelSet<AvxVnni>(Isa::kAvxVnni);

}  // namespace pqi::kernels
