// A kernel set against the plain reference, on the machine that is going to use it.
#pragma once

#include <string>

#include "kernels/kernel_set.h"

namespace pqi {

// The first kernel of the set whose result differs from the reference on a few small cases with extreme operands, in words ("u8s8 tile of 3
// rows"); empty if none does. Takes one or two milliseconds (kernels_bench, self_check). What it finds is a CPU, an emulator or a compiler
// that does not do what its manual says: the tests know nothing of the machine a user has.
std::string FindWrongKernel(const kernels::KernelSet& set);

}  // namespace pqi
