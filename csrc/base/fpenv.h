// The floating-point environment of the thread: what docs/numerics.md assumes, whatever the caller left behind.
#pragma once

#include <cstdint>

#if defined(__x86_64__) || defined(_M_X64)
#include <xmmintrin.h>
#endif

namespace pqi {

// Round to nearest even, denormals kept, all exceptions masked: the default of every C program. A caller may have changed it
// (torch.set_flush_denormal, fesetround), and new threads inherit the creator's; results must not depend on either.
class FpEnvScope {
 public:
  FpEnvScope() : saved_(Get()) { Set(kDefault); }
  ~FpEnvScope() { Set(saved_); }
  FpEnvScope(const FpEnvScope&) = delete;
  FpEnvScope& operator=(const FpEnvScope&) = delete;

  // For a thread that belongs to the engine: set once, never restored.
  static void SetDefault() { Set(kDefault); }

 private:
#if defined(__x86_64__) || defined(_M_X64)
  using Word = uint32_t;
  static constexpr Word kDefault = 0x1F80;
  static Word Get() { return _mm_getcsr(); }
  static void Set(Word w) { _mm_setcsr(w); }
#elif defined(__aarch64__)
  using Word = uint64_t;
  static constexpr Word kDefault = 0;
  static Word Get() {
    Word w;
    asm volatile("mrs %0, fpcr" : "=r"(w));
    return w;
  }
  static void Set(Word w) { asm volatile("msr fpcr, %0" : : "r"(w) : "memory"); }
#else
#error "pyqinfer runs on x86-64 and aarch64"
#endif

  Word saved_;
};

}  // namespace pqi
