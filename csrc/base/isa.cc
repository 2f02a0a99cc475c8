#include "base/isa.h"

#include <cstdint>
#include <cstring>
#include <fstream>

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace pqi {
namespace {

constexpr const char* kNames[kIsaCount] = {"reference", "avx2", "avxvnni", "avx512", "avx512vnni", "amx", "neon", "dotprod", "i8mm"};

struct Features {
  bool has[kIsaCount] = {};
  bool& operator[](Isa isa) { return has[static_cast<int>(isa)]; }
};

#if defined(__x86_64__)

struct Registers {
  uint32_t a = 0, b = 0, c = 0, d = 0;
};

Registers Cpuid(uint32_t leaf, uint32_t subleaf = 0) {
  Registers r;
  __cpuid_count(leaf, subleaf, r.a, r.b, r.c, r.d);
  return r;
}

// What the operating system saves on a context switch. The instruction is spelled out because the intrinsic needs -mxsave.
uint64_t ExtendedControlRegister0() {
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<uint64_t>(high) << 32) | low;
}

bool Bit(uint32_t word, int i) { return (word >> i) & 1; }

// Linux keeps 8 KiB of tile registers per thread only for processes that have asked for them; the first tile instruction of others is a
// fault. It may refuse, for instance where a thread has a signal stack that is too small for them.
bool MayUseTiles() {
#if defined(__linux__)
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

// Intel SDM volume 1, sections 14.3 and 15.2-15.4: CPUID says what the CPU has, XCR0 what the system preserves. Both are needed.
Features Detect() {
  Features f;
  f[Isa::kReference] = true;
  const uint32_t leaves = Cpuid(0).a;
  const Registers l1 = Cpuid(1);
  const bool osxsave = Bit(l1.c, 27);
  if (leaves < 7 || !osxsave) return f;
  const uint64_t xcr0 = ExtendedControlRegister0();
  const bool ymm = (xcr0 & 0x6) == 0x6;            // SSE and AVX state
  const bool zmm = ymm && (xcr0 & 0xE0) == 0xE0;   // opmask, ZMM_Hi256, Hi16_ZMM
  const bool tiles = (xcr0 & 0x60000) == 0x60000;  // XTILECFG, XTILEDATA

  const Registers l7 = Cpuid(7);
  const Registers l7s1 = l7.a >= 1 ? Cpuid(7, 1) : Registers();
  f[Isa::kAvx2] = ymm && Bit(l1.c, 28) && Bit(l1.c, 12) && Bit(l7.b, 5);  // AVX, FMA, AVX2
  f[Isa::kAvxVnni] = f[Isa::kAvx2] && Bit(l7s1.a, 4);
  f[Isa::kAvx512] = f[Isa::kAvx2] && zmm && Bit(l7.b, 16) && Bit(l7.b, 17) && Bit(l7.b, 30) && Bit(l7.b, 31);  // F, DQ, BW, VL
  f[Isa::kAvx512Vnni] = f[Isa::kAvx512] && Bit(l7.c, 11);
  f[Isa::kAmx] = f[Isa::kAvx512Vnni] && tiles && Bit(l7.d, 24) && Bit(l7.d, 25) && MayUseTiles();  // AMX-TILE, AMX-INT8
  return f;
}

std::string Brand() {
  if (Cpuid(0x80000000).a < 0x80000004) return "unknown";
  char text[49] = {};
  for (uint32_t i = 0; i < 3; ++i) {
    const Registers r = Cpuid(0x80000002 + i);
    std::memcpy(text + 16 * i, &r, 16);
  }
  return text;
}

#elif defined(__aarch64__)

Features Detect() {
  Features f;
  f[Isa::kReference] = true;
  f[Isa::kNeon] = true;  // part of armv8-a
#if defined(__linux__)
  // Bits of the kernel's stable ABI (Documentation/arch/arm64/elf_hwcaps.rst); older headers lack the second name.
  constexpr unsigned long kHwcapAsimdDp = 1ul << 20, kHwcap2I8mm = 1ul << 13;
  f[Isa::kDotprod] = (getauxval(AT_HWCAP) & kHwcapAsimdDp) != 0;
  f[Isa::kI8mm] = f[Isa::kDotprod] && (getauxval(AT_HWCAP2) & kHwcap2I8mm) != 0;
#endif
  return f;
}

// ARM has no brand string; Linux gives at most the implementer and part number, and device trees the model.
std::string Brand() {
  std::ifstream model("/proc/device-tree/model");
  std::string line;
  if (model && std::getline(model, line, '\0') && !line.empty()) return line;
  return "unknown";
}

#else
#error "pyqinfer runs on x86-64 and aarch64"
#endif

// Spaces pad the string on both sides.
std::string Trimmed(const std::string& text) {
  const size_t first = text.find_first_not_of(' ');
  if (first == std::string::npos) return "unknown";
  return text.substr(first, text.find_last_not_of(' ') - first + 1);
}

}  // namespace

const char* IsaName(Isa isa) { return kNames[static_cast<int>(isa)]; }

Result<Isa> ParseIsa(const std::string& name) {
  for (int i = 0; i < kIsaCount; ++i) {
    if (name == kNames[i]) return static_cast<Isa>(i);
  }
  std::string known;
  for (const char* n : kNames) known += (known.empty() ? "" : ", ") + std::string(n);
  return InvalidArgument("unknown ISA '" + name + "'; known: " + known);
}

bool CpuSupports(Isa isa) {
  static const Features features = Detect();
  return features.has[static_cast<int>(isa)];
}

std::string CpuBrand() { return Trimmed(Brand()); }

}  // namespace pqi
