// The eight tile registers of Intel AMX, each 16 rows of 64 bytes (Intel SDM volume 1, chapter 18). They are used in assembly, because the
// intrinsics of gcc take register numbers only as literals.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/generic/compiler.h"
#include "kernels/x86/amx/byte_table.h"

namespace pqi::kernels {
namespace {

struct AmxTiles {
  using ByteTable = ByteTableOfHalves;
  // Configures all registers at full size. That takes a few hundred cycles and clears them, so it is done once for many tiles.
  static void Begin() noexcept { BeginPieces(64); }
  // Configures registers 4 and 5 for rows of `bytes` k-values, and 6 and 7 for a panel of as many.
  static void BeginPieces(uint32_t bytes) noexcept {
    struct alignas(64) Config {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    };
    static_assert(sizeof(Config) == 64, "");
    Config config;
    config.row_bytes[4] = config.row_bytes[5] = static_cast<uint16_t>(bytes);
    config.rows[6] = config.rows[7] = static_cast<uint8_t>(bytes / 4);
    asm volatile("ldtilecfg %0" : : "m"(config) : "memory");
  }
  // Back to the initial state, which a context switch need not save. By the calling convention the registers are the callee's, so nothing
  // is restored.
  static void End() noexcept { asm volatile("tilerelease" : : : "memory"); }

  template <int R>
  PQI_INLINE static void Load(const void* p, ptrdiff_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(p), "r"(stride), "i"(R) : "memory");
  }
  template <int R>
  PQI_INLINE static void Store(void* p, ptrdiff_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(p), "r"(stride), "i"(R) : "memory");
  }
  template <int R>
  PQI_INLINE static void Zero() {
    asm volatile("tilezero %%tmm%c0" : : "i"(R));
  }
  template <int C, int A, int B>
  PQI_INLINE static void Dot() {
    asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
  }
};

}  // namespace
}  // namespace pqi::kernels
