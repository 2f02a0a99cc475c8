// Instruction sets that kernels are written for, and what this CPU has.
#pragma once

#include <string>

#include "base/status.h"

namespace pqi {

enum class Isa : int { kReference = 0, kAvx2, kAvxVnni, kAvx512, kAvx512Vnni, kAmx, kNeon, kDotprod, kI8mm };
inline constexpr int kIsaCount = 9;

// "reference", "avx2", "avxvnni", "avx512", "avx512vnni", "amx", "neon", "dotprod", "i8mm"
const char* IsaName(Isa isa);
// InvalidArgument for an unknown name; "auto" is not an ISA.
Result<Isa> ParseIsa(const std::string& name);
// True if this CPU and operating system can run it (XCR0 state included). kReference: always.
bool CpuSupports(Isa isa);
// The CPU's own name ("AMD EPYC ..."), or "unknown".
std::string CpuBrand();

}  // namespace pqi
