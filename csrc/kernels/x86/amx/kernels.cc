// The kernel set for AMX. It is compiled with flags for these instructions, so nothing here runs before base/isa.h has said that the CPU
// has them and that the operating system has let this process use the tile registers.
#include "kernels/generic/make_kernel_set.h"
#include "kernels/sets.h"
#include "kernels/x86/amx/simd.h"
#include "kernels/x86/amx/tiles.h"

namespace pqi::kernels {

constexpr KernelSet kAmxKernels = MakeKernelSet<Amx<AmxTiles>>(Isa::kAmx);

}  // namespace pqi::kernels
