// What this machine and this build can run.
#pragma once

#include <string>
#include <vector>

#include "base/isa.h"
#include "base/span.h"
#include "base/status.h"
#include "kernels/kernel_set.h"

namespace pqi {

// Instruction sets that this CPU runs and this build has kernels for, weakest first; kReference is always there.
std::vector<Isa> AvailableIsas();

struct Selection {
  const kernels::KernelSet* kernels = nullptr;
  // Empty, or why these are not the kernels asked for: which kernel of which set is wrong on this machine.
  std::string warning;
};

// Takes the last of `candidates` (weakest first) whose kernels all agree with the reference (runtime/self_check.h); the first is taken on
// trust.
Selection SelectWorking(Span<const kernels::KernelSet* const> candidates);

// Gives the kernels of a named instruction set, or of the strongest available one for "auto"; weaker ones, with a warning, if they turn out
// to be wrong on this machine. Each set is checked when a process first asks for it.
// kInvalidArgument for an unknown name, kUnsupported if the CPU or the build lacks it.
Result<Selection> SelectKernels(const std::string& isa);

// The compiler of this build: "clang 19.1.7" or "gcc 12.2.0".
std::string CompilerName();

}  // namespace pqi
