// Int8 dot-product peak of one core: independent accumulators, no memory traffic. x86-64 only; peak.py compiles it when it is needed.

#include <cpuid.h>
#include <stdint.h>

// 12 accumulators cover latency x throughput of every core that has these instructions (10 on Intel's, 4 to 8 on AMD's).
#define ACCUMULATORS 12
#define REPEAT(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define LOOP(BODY) __asm__ volatile("1:\n" REPEAT(BODY) "dec %0\n jnz 1b\n vzeroupper\n" : "+r"(n) : : "cc", CLOBBERED)
#define CLOBBERED \
  "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm13", "xmm14", "xmm15"

#define VNNI512(i) "vpdpbusd %%zmm14, %%zmm15, %%zmm" #i "\n"
#define AVXVNNI(i) "%{vex%} vpdpbusd %%ymm14, %%ymm15, %%ymm" #i "\n"
// A CPU without a dot-product instruction does what an exact AVX2 kernel does for 16 products, on codes widened to 16 bits.
#define AVX2(i) "vpmaddwd %%ymm14, %%ymm15, %%ymm13\n vpaddd %%ymm13, %%ymm" #i ", %%ymm" #i "\n"

__attribute__((target("avx512f"))) static void run_vnni512(int64_t n) { LOOP(VNNI512); }
__attribute__((target("avx2"))) static void run_avxvnni(int64_t n) { LOOP(AVXVNNI); }
__attribute__((target("avx2"))) static void run_avx2(int64_t n) { LOOP(AVX2); }

typedef struct {
  const char* name;
  int macs;  // multiply-accumulates of one repetition
  void (*run)(int64_t iterations);
} Loop;

static const Loop kNone = {"", 0, 0};
static const Loop kVnni512 = {"vpdpbusd zmm", 64, run_vnni512};
static const Loop kAvxVnni = {"vpdpbusd ymm", 32, run_avxvnni};
static const Loop kAvx2 = {"vpmaddwd ymm", 16, run_avx2};

// The compilers' own test does not know AVX-VNNI everywhere. The operating system saves ymm registers if AVX2 is reported at all.
static int has_avxvnni(void) {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __builtin_cpu_supports("avx2") && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}

static const Loop* best(void) {
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512vnni")) return &kVnni512;
  if (has_avxvnni()) return &kAvxVnni;
  return __builtin_cpu_supports("avx2") ? &kAvx2 : &kNone;
}

// Name of the instruction; empty on a CPU with none of them, where peak_run must not be called.
const char* peak_instruction(void) { return best()->name; }
int64_t peak_macs_per_iteration(void) { return (int64_t)best()->macs * ACCUMULATORS; }
void peak_run(int64_t iterations) { best()->run(iterations); }
