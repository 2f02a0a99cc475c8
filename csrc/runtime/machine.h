// What this machine and this build can run.
#pragma once

#include <string>
#include <vector>

#include "base/isa.h"
#include "base/status.h"
#include "kernels/contract.h"

namespace pqi {

// Instruction sets that this CPU runs and this build has kernels for, weakest first; kReference is always there.
std::vector<Isa> AvailableIsas();

// The kernels of a named instruction set, or of the strongest available one for "auto".
// kInvalidArgument for an unknown name, kUnsupported if the CPU or the build lacks it.
Result<const kernels::KernelSet*> SelectKernels(const std::string& isa);

// "clang 19.1.7" or "gcc 12.2.0".
std::string CompilerName();

}  // namespace pqi
