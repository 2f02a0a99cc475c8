// AMX primitives: those of AVX512-VNNI, and matrix registers for the u8 x s8 tile (kernels/generic/matrix_tile.h).
#pragma once

#include "kernels/x86/avx512vnni/simd.h"

namespace pqi::kernels {
namespace {

// M are the matrix registers, native (tiles.h) or emulated (tests/twins), with the table of bytes that fits the CPU that runs them.
template <class M>
struct Amx : Avx512Vnni {
  using Matrix = M;
  using ByteTable = typename M::ByteTable;
  static constexpr TileShape kU8S8 = {16, 64, 4};
  static constexpr int kNarrowUnpackedRows = 16;

  template <int Bytes, class Lanes>
  PQI_INLINE static void StorePiece(uint8_t* p, Int v, int piece, Lanes lanes) {
    if constexpr (Bytes == 64) {
      PutBytes(p, v, lanes);
    } else {
      Avx512Vnni::StorePiece<Bytes>(p, v, piece, lanes);
    }
  }
};

}  // namespace
}  // namespace pqi::kernels
