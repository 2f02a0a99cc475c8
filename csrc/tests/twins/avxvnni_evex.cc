// The kernels of AVX-VNNI compiled without it: vpdpbusd in its EVEX form.
#include "kernels/generic/make_kernel_set.h"
#include "kernels/x86/avxvnni/simd.h"

#if defined(__AVXVNNI__)
#error "compile without -mavxvnni"
#endif

namespace pqi::kernels {

extern const KernelSet kAvxVnniEvexKernels;
constexpr KernelSet kAvxVnniEvexKernels = MakeKernelSet<AvxVnni>(Isa::kAvxVnni);

}  // namespace pqi::kernels
