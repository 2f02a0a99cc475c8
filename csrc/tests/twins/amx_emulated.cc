// The kernels of AMX over tile registers in plain memory: the loop nest, its staging and its panels, bit for bit.
#include <cstdlib>
#include <cstring>

#include "kernels/generic/make_kernel_set.h"
#include "kernels/x86/amx/simd.h"
#include "kernels/x86/avx512/byte_table.h"

namespace pqi::kernels {
namespace {

// Does what AmxTiles does, by the pseudocode of the manual. Use outside of Begin and End, a fault on the CPU, is one here too.
struct EmulatedTiles {
  using ByteTable = kernels::ByteTable;
  struct State {
    bool configured = false;
    int rows[8], bytes[8];
    uint8_t registers[8][16][64];
  };
  static State& Get() {
    static thread_local State state;
    return state;
  }
  static State& GetConfigured() {
    if (!Get().configured) std::abort();
    return Get();
  }

  static void Begin() noexcept { BeginPieces(64); }
  static void BeginPieces(uint32_t bytes) noexcept {
    if (Get().configured) std::abort();  // one scope within another would release too early
    std::memset(Get().registers, 0, sizeof Get().registers);
    for (int r = 0; r < 8; ++r) {
      Get().rows[r] = r >= 6 ? static_cast<int>(bytes / 4) : 16;
      Get().bytes[r] = r == 4 || r == 5 ? static_cast<int>(bytes) : 64;
    }
    Get().configured = true;
  }
  static void End() noexcept { GetConfigured().configured = false; }

  template <int R>
  static void Load(const void* p, ptrdiff_t stride) {
    State& s = GetConfigured();
    std::memset(s.registers[R], 0, sizeof s.registers[R]);
    for (int i = 0; i < s.rows[R]; ++i) {
      std::memcpy(s.registers[R][i], static_cast<const uint8_t*>(p) + i * stride, static_cast<size_t>(s.bytes[R]));
    }
  }
  template <int R>
  static void Store(void* p, ptrdiff_t stride) {
    for (int i = 0; i < 16; ++i) std::memcpy(static_cast<uint8_t*>(p) + i * stride, GetConfigured().registers[R][i], 64);
  }
  template <int R>
  static void Zero() {
    std::memset(GetConfigured().registers[R], 0, sizeof(State::registers[R]));
  }
  template <int C, int A, int B>
  static void Dot() {
    State& s = GetConfigured();
    if (s.bytes[A] != s.rows[B] * 4) std::abort();
    for (int m = 0; m < 16; ++m) {
      for (int n = 0; n < 16; ++n) {
        uint32_t sum;
        std::memcpy(&sum, &s.registers[C][m][4 * n], 4);
        for (int k = 0; k < s.bytes[A] / 4; ++k) {
          for (int i = 0; i < 4; ++i) {
            const int32_t product = s.registers[A][m][4 * k + i] * static_cast<int8_t>(s.registers[B][k][4 * n + i]);
            sum += static_cast<uint32_t>(product);
          }
        }
        std::memcpy(&s.registers[C][m][4 * n], &sum, 4);
      }
    }
  }
};

}  // namespace

extern const KernelSet kAmxEmulatedKernels;
constexpr KernelSet kAmxEmulatedKernels = MakeKernelSet<Amx<EmulatedTiles>>(Isa::kAmx);

}  // namespace pqi::kernels
