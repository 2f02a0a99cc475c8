#include "base/cpu_family.h"

#include "base/isa.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace pqi {

bool CpuAddsBesideDots() {
#if defined(__x86_64__)
  unsigned a, b, c, d;
  __cpuid(0, a, b, c, d);
  const bool amd = b == signature_AMD_ebx && c == signature_AMD_ecx && d == signature_AMD_edx;
  __cpuid(1, a, b, c, d);
  const unsigned base = (a >> 8) & 0xF, family = base == 0xF ? base + ((a >> 20) & 0xFF) : base;
  return amd && (family == 0x19 || family == 0x1A);
#else
  return false;
#endif
}

bool CpuHasTwoDotPorts() { return CpuSupports(Isa::kAmx); }

}  // namespace pqi
