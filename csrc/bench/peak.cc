#include "bench/peak.h"

#include <chrono>
#include <cstdint>

namespace pqi::bench {
namespace {

#if defined(__x86_64__)

// Twelve independent chains hide the latency of every instruction used. Registers 0..11 accumulate, 14 and 15 are operands (zero).
#define PQI_TWELVE(op) op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7) op(8) op(9) op(10) op(11)
#define PQI_ZMM_DOT(i) "vpdpbusd %%zmm14, %%zmm15, %%zmm" #i "\n"
#define PQI_ZMM_FMA(i) "vfmadd231ps %%zmm14, %%zmm15, %%zmm" #i "\n"
#define PQI_YMM_FMA(i) "vfmadd231ps %%ymm14, %%ymm15, %%ymm" #i "\n"
#define PQI_YMM_MADD(i) "vpmaddwd %%ymm14, %%ymm15, %%ymm13\nvpaddd %%ymm13, %%ymm" #i ", %%ymm" #i "\n"
#define PQI_LOOP(name, features, step)                                                                                              \
  __attribute__((target(features))) void name(uint64_t n) {                                                                         \
    asm volatile("vzeroall\n1:\n" PQI_TWELVE(step) "dec %0\njnz 1b\nvzeroupper\n"                                                   \
                 : "+r"(n)                                                                                                          \
                 :                                                                                                                  \
                 : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm13", \
                   "xmm14", "xmm15");                                                                                               \
  }
PQI_LOOP(DotZmm, "avx512f,avx512vnni", PQI_ZMM_DOT)
PQI_LOOP(FmaZmm, "avx512f", PQI_ZMM_FMA)
PQI_LOOP(FmaYmm, "avx2,fma", PQI_YMM_FMA)
PQI_LOOP(MaddYmm, "avx2", PQI_YMM_MADD)

struct Loop {
  void (*run)(uint64_t n) = nullptr;
  double macs = 0;  // multiply-adds per iteration
};

Loop LoopOf(Isa isa, Product product) {
  const bool dot = product == Product::kU8S8;
  if (isa == Isa::kAvx512Vnni) return dot ? Loop{DotZmm, 12 * 64} : Loop{FmaZmm, 12 * 16};
  if (isa == Isa::kAvx2) return dot ? Loop{MaddYmm, 12 * 16} : Loop{FmaYmm, 12 * 8};
  return {};
}

// The best of several runs of some milliseconds: a core that is also used by others shows its peak only now and then.
double Measure(const Loop& loop) {
  constexpr uint64_t kIterations = 1000000;
  double best = 0;
  for (int i = 0; i < 20; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    loop.run(kIterations);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    const double rate = static_cast<double>(kIterations) * loop.macs / seconds.count();
    best = rate > best ? rate : best;
  }
  return best;
}

#endif

}  // namespace

double PeakMacs(Isa isa, Product product) {
#if defined(__x86_64__)
  static double known[kIsaCount][2] = {};
  double& peak = known[static_cast<int>(isa)][static_cast<int>(product)];
  const Loop loop = LoopOf(isa, product);
  if (peak == 0 && loop.run != nullptr && CpuSupports(isa)) peak = Measure(loop);
  return peak;
#else
  (void)isa, (void)product;
  return 0;
#endif
}

}  // namespace pqi::bench
