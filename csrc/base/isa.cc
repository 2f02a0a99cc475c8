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

struct Row {
  const char* name;
  Isa parent;
  bool has_costs;
};
constexpr Row kRows[] = {
#define PQI_ISA(enumerator, name, kernels, architecture, parent, costs, ...) {name, Isa::parent, costs},
#include "base/isa.inc"
#undef PQI_ISA
};

constexpr bool ParentsComeFirst() {
  for (int i = 1; i < kIsaCount; ++i) {
    if (static_cast<int>(kRows[i].parent) >= i) return false;
  }
  return true;
}
static_assert(Isa::kReference == Isa(0) && ParentsComeFirst(), "a row of base/isa.inc stands below its parent's");

const Row& RowOf(Isa isa) { return kRows[static_cast<int>(isa)]; }

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

// What the CPU has, by CPUID, and what the operating system preserves, by XCR0 (Intel SDM volume 1, sections 14.3 and 15.2-15.4). Both are
// needed.
struct Cpu {
  Registers leaf1, leaf7, leaf7_1;
  bool ymm = false, zmm = false, tiles = false;

  Cpu() {
    const uint32_t leaves = Cpuid(0).a;
    leaf1 = Cpuid(1);
    const bool osxsave = Bit(leaf1.c, 27);
    if (leaves < 7 || !osxsave) return;
    const uint64_t xcr0 = ExtendedControlRegister0();
    ymm = (xcr0 & 0x6) == 0x6;            // SSE and AVX state
    zmm = ymm && (xcr0 & 0xE0) == 0xE0;   // opmask, ZMM_Hi256, Hi16_ZMM
    tiles = (xcr0 & 0x60000) == 0x60000;  // XTILECFG, XTILEDATA
    leaf7 = Cpuid(7);
    if (leaf7.a >= 1) leaf7_1 = Cpuid(7, 1);
  }
};

// What a set needs beyond its parent. There is no default, so that the compiler names a row that was forgotten here.
bool HasOwnFeatures(Isa isa, const Cpu& cpu) {
  switch (isa) {
    case Isa::kReference:
      return true;
    case Isa::kAvx2:
      return cpu.ymm && Bit(cpu.leaf1.c, 28) && Bit(cpu.leaf1.c, 12) && Bit(cpu.leaf7.b, 5);  // AVX, FMA, AVX2
    case Isa::kAvxVnni:
      return Bit(cpu.leaf7_1.a, 4);
    case Isa::kAvx512:
      return cpu.zmm && Bit(cpu.leaf7.b, 16) && Bit(cpu.leaf7.b, 17) && Bit(cpu.leaf7.b, 30) && Bit(cpu.leaf7.b, 31);  // F, DQ, BW, VL
    case Isa::kAvx512Vnni:
      return Bit(cpu.leaf7.c, 11);
    case Isa::kAmx:
      // AMX-TILE, AMX-INT8, AVX512-VBMI
      return cpu.tiles && Bit(cpu.leaf7.d, 24) && Bit(cpu.leaf7.d, 25) && Bit(cpu.leaf7.c, 1) && MayUseTiles();
    case Isa::kNeon:
    case Isa::kDotprod:
    case Isa::kI8mm:
      return false;
  }
  return false;
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

// Bits of the kernel's stable ABI (Documentation/arch/arm64/elf_hwcaps.rst); older headers lack the second name. Other systems show none.
struct Cpu {
#if defined(__linux__)
  bool dotprod = (getauxval(AT_HWCAP) & (1ul << 20)) != 0;  // HWCAP_ASIMDDP
  bool i8mm = (getauxval(AT_HWCAP2) & (1ul << 13)) != 0;    // HWCAP2_I8MM
#else
  bool dotprod = false, i8mm = false;
#endif
};

// What a set needs beyond its parent. There is no default, so that the compiler names a row that was forgotten here.
bool HasOwnFeatures(Isa isa, const Cpu& cpu) {
  switch (isa) {
    case Isa::kReference:
    case Isa::kNeon:  // part of armv8-a
      return true;
    case Isa::kDotprod:
      return cpu.dotprod;
    case Isa::kI8mm:
      return cpu.i8mm;
    case Isa::kAvx2:
    case Isa::kAvxVnni:
    case Isa::kAvx512:
    case Isa::kAvx512Vnni:
    case Isa::kAmx:
      return false;
  }
  return false;
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

struct Features {
  bool has[kIsaCount] = {};

  Features() {
    const Cpu cpu;
    for (int i = 0; i < kIsaCount; ++i) has[i] = (i == 0 || has[static_cast<int>(kRows[i].parent)]) && HasOwnFeatures(Isa(i), cpu);
  }
};

// Spaces pad the string on both sides.
std::string Trimmed(const std::string& text) {
  const size_t first = text.find_first_not_of(' ');
  if (first == std::string::npos) return "unknown";
  return text.substr(first, text.find_last_not_of(' ') - first + 1);
}

}  // namespace

const char* IsaName(Isa isa) { return RowOf(isa).name; }

Result<Isa> ParseIsa(const std::string& name) {
  std::string known;
  for (int i = 0; i < kIsaCount; ++i) {
    if (name == kRows[i].name) return static_cast<Isa>(i);
    known += (known.empty() ? "" : ", ") + std::string(kRows[i].name);
  }
  return InvalidArgument("unknown ISA '" + name + "'; known: " + known);
}

bool IsaHasCosts(Isa isa) { return RowOf(isa).has_costs; }

bool CpuSupports(Isa isa) {
  static const Features features;
  return features.has[static_cast<int>(isa)];
}

std::string CpuBrand() { return Trimmed(Brand()); }

}  // namespace pqi
