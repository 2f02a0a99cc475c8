// Instruction sets that kernels are written for (base/isa.inc lists them), and which of them this CPU has.
#pragma once

#include <string>

#include "base/status.h"

namespace pqi {

// Later ones are preferred. The numbers are not stable: only names leave the process.
enum class Isa : int {
#define PQI_ISA(enumerator, ...) enumerator,
#include "base/isa.inc"
#undef PQI_ISA
};

inline constexpr int kIsaCount = 0
#define PQI_ISA(...) +1
#include "base/isa.inc"
#undef PQI_ISA
    ;

// The name in base/isa.inc: "reference", "avx2", ...
const char* IsaName(Isa isa);
// InvalidArgument for an unknown name; "auto" is not an ISA.
Result<Isa> ParseIsa(const std::string& name);
// True if the planner has costs for it, measured on such a CPU.
bool IsaHasCosts(Isa isa);
// True if this CPU and operating system can run it (XCR0 state included). kReference: always.
bool CpuSupports(Isa isa);
// The CPU's own name ("AMD EPYC ..."), or "unknown".
std::string CpuBrand();

}  // namespace pqi
