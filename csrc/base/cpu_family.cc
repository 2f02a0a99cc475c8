#include "base/cpu_family.h"

#include "base/isa.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace pqi {

namespace {

#if defined(__x86_64__)
struct Family {
  bool amd, intel;
  unsigned family, model;
};
Family CpuFamily() {
  unsigned a, b, c, d;
  __cpuid(0, a, b, c, d);
  const bool amd = b == signature_AMD_ebx && c == signature_AMD_ecx && d == signature_AMD_edx;
  const bool intel = b == signature_INTEL_ebx && c == signature_INTEL_ecx && d == signature_INTEL_edx;
  __cpuid(1, a, b, c, d);
  const unsigned base = (a >> 8) & 0xF, family = base == 0xF ? base + ((a >> 20) & 0xFF) : base;
  return {amd, intel, family, ((a >> 4) & 0xF) | ((a >> 12) & 0xF0)};
}
#endif

}  // namespace

bool CpuAddsBesideDots() {
#if defined(__x86_64__)
  const Family f = CpuFamily();
  return f.amd && (f.family == 0x19 || f.family == 0x1A);
#else
  return false;
#endif
}

bool CpuHasTwoDotPorts() {
  if (CpuSupports(Isa::kAmx)) return true;
#if defined(__x86_64__)
  // The servers before AMX: Cascade Lake and Cooper Lake (55h), Ice Lake (6Ah, 6Ch). Desktop CPUs of the same generations have one port.
  const Family f = CpuFamily();
  return f.intel && f.family == 6 && (f.model == 0x55 || f.model == 0x6A || f.model == 0x6C);
#else
  return false;
#endif
}

}  // namespace pqi
