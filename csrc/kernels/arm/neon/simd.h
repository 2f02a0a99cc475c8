// Primitives of baseline aarch64 NEON (kernels/generic/primitives.h says what each name means).
#pragma once

#include <arm_neon.h>

#include <cstring>

#include "kernels/arm/neon/byte_table.h"
#include "kernels/contract/tile.h"
#include "kernels/generic/compiler.h"
#include "kernels/generic/turn.h"

namespace pqi::kernels {
namespace {

struct Neon {
  static constexpr int kLanes = 4;
  static constexpr int kBytes = 16;
  // 32 registers hold 3x16 as 12 accumulators, 8 weights (two phases), the activation, its two phases, products and a mask. A fourth row
  // would make clang spill one vector and save 1 % of the instructions.
  static constexpr TileShape kU8S8 = {3, 16, 4};
  // 6x16 takes 24 accumulators, 4 weights and 1 activation.
  static constexpr TileShape kF32 = {6, 16, 1};

  using Int = int32x4_t;
  using Float = float32x4_t;
  struct All {};
  struct Mask {
    uint32_t count;
  };

  PQI_INLINE static Mask First(size_t n) { return {static_cast<uint32_t>(n)}; }

  // Loads and stores of bytes, four or eight at a time.
  PQI_INLINE static uint8x8_t Bytes4(const void* p, All) {
    uint32_t v;
    std::memcpy(&v, p, 4);
    return vcreate_u8(v);
  }
  PQI_INLINE static uint8x8_t Bytes8(const void* p, All) { return vld1_u8(static_cast<const uint8_t*>(p)); }
  PQI_INLINE static uint8x8_t Bytes8(const void* p, Mask m) {
    uint64_t v = 0;
    for (uint32_t i = 0; i < m.count; ++i) v |= static_cast<uint64_t>(static_cast<const uint8_t*>(p)[i]) << (8 * i);
    return vcreate_u8(v);
  }
  PQI_INLINE static uint8x8_t Bytes4(const void* p, Mask m) { return Bytes8(p, m); }
  PQI_INLINE static void PutBytes4(uint8_t* p, uint8x8_t v, All) {
    const uint32_t bytes = vget_lane_u32(vreinterpret_u32_u8(v), 0);
    std::memcpy(p, &bytes, 4);
  }
  PQI_INLINE static void PutBytes8(uint8_t* p, uint8x8_t v, All) { vst1_u8(p, v); }
  PQI_INLINE static void PutBytes8(uint8_t* p, uint8x8_t v, Mask m) {
    const uint64_t bytes = vget_lane_u64(vreinterpret_u64_u8(v), 0);
    for (uint32_t i = 0; i < m.count; ++i) p[i] = static_cast<uint8_t>(bytes >> (8 * i));
  }
  PQI_INLINE static void PutBytes4(uint8_t* p, uint8x8_t v, Mask m) { PutBytes8(p, v, m); }

  template <class Lanes>
  PQI_INLINE static Int LoadU8(const uint8_t* p, Lanes lanes) {
    return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(Bytes4(p, lanes)))));
  }
  PQI_INLINE static Int LoadS8(const int8_t* p) { return vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u8(Bytes4(p, All()))))); }
  PQI_INLINE static uint8x8_t PackU8(Int low, Int high) { return vqmovn_u16(vcombine_u16(vqmovun_s32(low), vqmovun_s32(high))); }
  template <class Lanes>
  PQI_INLINE static void StoreU8(uint8_t* p, Int v, Lanes lanes) {
    PutBytes4(p, PackU8(v, v), lanes);
  }
  using ByteTable = kernels::ByteTable;
  PQI_INLINE static void MaxBytes(const uint8_t* const* x, size_t count, size_t at, uint8_t* y) {
    uint8x16_t most = vld1q_u8(x[0] + at);
    for (size_t i = 1; i < count; ++i) most = vmaxq_u8(most, vld1q_u8(x[i] + at));
    vst1q_u8(y, most);
  }
  PQI_INLINE static void Interleave3(const uint8_t* a, const uint8_t* b, const uint8_t* c, uint8_t* out) {
    const uint8x16x3_t planes = {{vld1q_u8(a), vld1q_u8(b), vld1q_u8(c)}};
    vst3q_u8(out, planes);
  }

  // Arithmetic of integers.
  PQI_INLINE static Int SetInt(int32_t v) { return vdupq_n_s32(v); }
  PQI_INLINE static Int LoadInt(const int32_t* p, All = {}) { return vld1q_s32(p); }
  PQI_INLINE static Int LoadInt(const int32_t* p, Mask m) { return LoadPart<Int>(p, m); }
  PQI_INLINE static void StoreInt(int32_t* p, Int v, All = {}) { vst1q_s32(p, v); }
  PQI_INLINE static void StoreInt(int32_t* p, Int v, Mask m) { std::memcpy(p, &v, m.count * sizeof(int32_t)); }
  PQI_INLINE static Int AddInt(Int a, Int b) { return vaddq_s32(a, b); }
  PQI_INLINE static Int SubInt(Int a, Int b) { return vsubq_s32(a, b); }
  PQI_INLINE static Int MulInt(Int a, Int b) { return vmulq_s32(a, b); }
  PQI_INLINE static Int MulSmall(Int a, Int b) { return vmulq_s32(a, b); }

  // Sums of sparse convolutions (kernels/generic/sparse.h).
  static constexpr int kSparseVectors = 8, kSparseWideVectors = 8;
  PQI_INLINE static Int LoadBytes(const uint8_t* p) { return vreinterpretq_s32_u8(vld1q_u8(p)); }
  PQI_INLINE static Int LoadBytes(const uint8_t* p, uint32_t n) {
    uint8x16_t v = vdupq_n_u8(0);
    std::memcpy(&v, p, n);
    return vreinterpretq_s32_u8(v);
  }
  PQI_INLINE static void StoreBytes(uint8_t* p, Int v) { vst1q_u8(p, vreinterpretq_u8_s32(v)); }
  PQI_INLINE static Int AddBytes(Int a, Int b) { return vreinterpretq_s32_u8(vaddq_u8(vreinterpretq_u8_s32(a), vreinterpretq_u8_s32(b))); }
  PQI_INLINE static Int SubBytes(Int a, Int b) { return vreinterpretq_s32_u8(vsubq_u8(vreinterpretq_u8_s32(a), vreinterpretq_u8_s32(b))); }
  PQI_INLINE static Int AddShorts(Int a, Int b) {
    return vreinterpretq_s32_u16(vaddq_u16(vreinterpretq_u16_s32(a), vreinterpretq_u16_s32(b)));
  }
  PQI_INLINE static Int SubShorts(Int a, Int b) {
    return vreinterpretq_s32_u16(vsubq_u16(vreinterpretq_u16_s32(a), vreinterpretq_u16_s32(b)));
  }
  PQI_INLINE static Int EvenBytes(Int v) { return vreinterpretq_s32_u16(vandq_u16(vreinterpretq_u16_s32(v), vdupq_n_u16(0xFF))); }
  PQI_INLINE static Int OddBytes(Int v) { return vreinterpretq_s32_u16(vshrq_n_u16(vreinterpretq_u16_s32(v), 8)); }
  template <int I>
  PQI_INLINE static Int QuadBytes(Int v) {
    return vreinterpretq_s32_u32(vandq_u32(vshlq_u32(vreinterpretq_u32_s32(v), vdupq_n_s32(-8 * I)), vdupq_n_u32(0xFF)));
  }
  PQI_INLINE static Int PackQuads(Int a, Int b, Int c, Int d, Int zero_point, Int top) {
    alignas(16) static constexpr uint8_t kTurns[16] = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
    return vreinterpretq_s32_u8(vqtbl1q_u8(vreinterpretq_u8_s32(PackBytes(a, b, c, d, zero_point, top)), vld1q_u8(kTurns)));
  }
  struct Bytes {
    using Vector = uint8x16_t;
    PQI_INLINE static Vector Low(Vector a, Vector b) { return vzip1q_u8(a, b); }
    PQI_INLINE static Vector High(Vector a, Vector b) { return vzip2q_u8(a, b); }
  };
  struct Shorts {
    using Vector = int16x8_t;
    PQI_INLINE static Vector Low(Vector a, Vector b) { return vzip1q_s16(a, b); }
    PQI_INLINE static Vector High(Vector a, Vector b) { return vzip2q_s16(a, b); }
  };
  static constexpr int kTransposed = 16;
  template <int N>
  PQI_INLINE static void PlanesToPixels(const uint8_t* const* rows, size_t at, uint8_t* out, size_t stride) {
    PixelsToPlanes<N>(rows, at, out, stride);
  }
  template <int N>
  PQI_INLINE static void PixelsToPlanes(const uint8_t* const* rows, size_t at, uint8_t* out, size_t stride) {
    static_assert(N == 16, "");
    uint8x16_t v[16];
    PQI_UNROLL for (int i = 0; i < 16; ++i) v[i] = vld1q_u8(rows[i] + at);
    TurnSquare<Bytes>(v);
    PQI_UNROLL for (int i = 0; i < 16; ++i) vst1q_u8(out + static_cast<size_t>(i) * stride, v[i]);
  }
  template <bool kStart>
  PQI_INLINE static void TransposeShorts(const uint8_t* p, size_t stride, const int32_t* start, int32_t* out, size_t out_stride) {
    PQI_UNROLL for (int half = 0; half < 2; ++half) {
      int16x8_t v[8];
      PQI_UNROLL for (int i = 0; i < 8; ++i) v[i] = vreinterpretq_s16_u8(vld1q_u8(p + static_cast<size_t>(i) * stride + half * 16));
      TurnSquare<Shorts>(v);
      PQI_UNROLL for (int i = 0; i < 8; ++i) {
        int32_t* to = out + static_cast<size_t>(half * 8 + i) * out_stride;
        vst1q_s32(to, vaddw_s16(vld1q_s32(kStart ? start : to), vget_low_s16(v[i])));
        vst1q_s32(to + 4, vaddw_s16(vld1q_s32(kStart ? start + 4 : to + 4), vget_high_s16(v[i])));
      }
    }
  }

  // The product multiplies signed bytes, so activations enter as a - 128 and the start value makes up for it (TileSet::u8s8_offset).
  // smull gives eight 16-bit products of at most 2^14, two for each of four channels, and sadalp adds each pair to its channel, so nothing
  // saturates. Phase 0 takes bytes 0 and 1 of each dword, phase 1 bytes 2 and 3.
  using Matrix = void;
  static constexpr int32_t kOffset = 128;
  static constexpr int kPhases = 2;
  static constexpr int kPairsRows = 0;
  PQI_INLINE static Int LoadPanel(const int8_t* p) { return vreinterpretq_s32_s8(vld1q_s8(p)); }
  PQI_INLINE static Int PhaseWeights(Int w, int phase) {
    const int16x8_t v = vreinterpretq_s16_s32(w);
    return vreinterpretq_s32_s16(phase == 0 ? vuzp1q_s16(v, v) : vuzp2q_s16(v, v));
  }
  PQI_INLINE static Int Centred(Int x) { return vreinterpretq_s32_u8(veorq_u8(vreinterpretq_u8_s32(x), vdupq_n_u8(0x80))); }
  PQI_INLINE static Int PhaseActivations(Int x, int phase) { return PhaseWeights(Centred(x), phase); }
  PQI_INLINE static Int Dot(Int acc, Int x, Int w) {
    return vpadalq_s16(acc, vmull_s8(vget_low_s8(vreinterpretq_s8_s32(x)), vget_low_s8(vreinterpretq_s8_s32(w))));
  }

  // Arithmetic of floats. Maxima and minima are comparisons and selections, because fmax and fmin treat NaN and zeros in their own way.
  PQI_INLINE static Float SetFloat(float v) { return vdupq_n_f32(v); }
  PQI_INLINE static Float LoadFloat(const float* p, All = {}) { return vld1q_f32(p); }
  PQI_INLINE static Float LoadFloat(const float* p, Mask m) { return LoadPart<Float>(p, m); }
  PQI_INLINE static void StoreFloat(float* p, Float v, All = {}) { vst1q_f32(p, v); }
  PQI_INLINE static void StoreFloat(float* p, Float v, Mask m) { std::memcpy(p, &v, m.count * sizeof(float)); }
  PQI_INLINE static Float AddF(Float a, Float b) { return vaddq_f32(a, b); }
  PQI_INLINE static Float MulF(Float a, Float b) { return vmulq_f32(a, b); }
  PQI_INLINE static Float Fma(Float a, Float b, Float c) { return vfmaq_f32(c, a, b); }
  PQI_INLINE static Float MaxF(Float a, Float b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
  PQI_INLINE static Float MinF(Float a, Float b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
  PQI_INLINE static Float SubF(Float a, Float b) { return vsubq_f32(a, b); }
  PQI_INLINE static Float DivF(Float a, Float b) { return vdivq_f32(a, b); }
  PQI_INLINE static Float AbsF(Float a) { return vabsq_f32(a); }
  PQI_INLINE static Float CopySign(Float magnitude, Float sign) { return vbslq_f32(vdupq_n_u32(0x80000000), sign, magnitude); }
  PQI_INLINE static Float SelectGreater(Float a, Float b, Float x, Float y) { return vbslq_f32(vcgtq_f32(a, b), x, y); }
  PQI_INLINE static Float SelectNan(Float a, Float x, Float y) { return vbslq_f32(vceqq_f32(a, a), y, x); }
  PQI_INLINE static Float SqrtF(Float a) { return vsqrtq_f32(a); }
  PQI_INLINE static Int FloatBits(Float a) { return vreinterpretq_s32_f32(a); }
  PQI_INLINE static Float BitsFloat(Int a) { return vreinterpretq_f32_s32(a); }
  template <int N>
  PQI_INLINE static Int ShiftLeft(Int a) {
    return vshlq_n_s32(a, N);
  }
  template <int N>
  PQI_INLINE static Int ShiftRight(Int a) {
    return vshrq_n_s32(a, N);
  }
  PQI_INLINE static Float PowerOfTwo(Int n) { return vreinterpretq_f32_s32(vshlq_n_s32(AddInt(n, SetInt(127)), 23)); }
  PQI_INLINE static Float ToFloat(Int a) { return vcvtq_f32_s32(a); }
  PQI_INLINE static Int ToIntNearest(Float a) { return vcvtnq_s32_f32(a); }
  PQI_INLINE static Int ToIntPlain(Float a) { return vcvtnq_s32_f32(a); }

  using ByteMask = Mask;
  PQI_INLINE static ByteMask FirstBytes(size_t n) { return First(n); }
  // Codes of an epilogue to bytes (generic/epilogue_registers.h).
  PQI_INLINE static Int SetBytes(int8_t v) { return vreinterpretq_s32_s8(vdupq_n_s8(v)); }
  PQI_INLINE static Int SetShort(int32_t v) { return vreinterpretq_s32_s16(vdupq_n_s16(static_cast<int16_t>(v))); }
  PQI_INLINE static uint8x8_t PackHalf(Int a, Int b, Int zero_point, Int top) {
    const uint8x8_t bytes = vqmovun_s16(vqaddq_s16(vcombine_s16(vqmovn_s32(a), vqmovn_s32(b)), vreinterpretq_s16_s32(zero_point)));
    return vmin_u8(bytes, vget_low_u8(vreinterpretq_u8_s32(top)));
  }
  PQI_INLINE static Int PackBytes(Int a, Int b, Int c, Int d, Int zero_point, Int top) {
    return vreinterpretq_s32_u8(vcombine_u8(PackHalf(a, b, zero_point, top), PackHalf(c, d, zero_point, top)));
  }
  template <int Bytes, class Lanes>
  PQI_INLINE static void StorePiece(uint8_t* p, Int v, int piece, Lanes lanes) {
    const uint8x16_t bytes = vreinterpretq_u8_s32(v);
    if constexpr (Bytes == 16) {
      PutBytes16(p, bytes, lanes);
    } else {
      static_assert(Bytes == 8, "");
      PutBytes8(p, piece == 0 ? vget_low_u8(bytes) : vget_high_u8(bytes), lanes);
    }
  }
  PQI_INLINE static void PutBytes16(uint8_t* p, uint8x16_t v, All) { vst1q_u8(p, v); }
  PQI_INLINE static void PutBytes16(uint8_t* p, uint8x16_t v, Mask m) {
    if (m.count < 8) return PutBytes8(p, vget_low_u8(v), m);
    vst1_u8(p, vget_low_u8(v));
    PutBytes8(p + 8, vget_high_u8(v), Mask{m.count - 8});
  }

  // Columns of pixels (kernels/generic/depthwise_columns.h), widened to 16 bits: a register holds, in its lower half, one pixel of four
  // channels.
  static constexpr int kColumnVectors = 2;
  static constexpr int kColumnOutputs = 1;
  static constexpr int kRowsBeside = 1;
  static constexpr int ColumnPhases(int lines) { return lines; }
  PQI_INLINE static Int ColumnDot(Int acc, Int x, Int w) {
    return vmlal_s16(acc, vget_low_s16(vreinterpretq_s16_s32(x)), vget_low_s16(vreinterpretq_s16_s32(w)));
  }
  template <int Q>
  PQI_INLINE static void SplitChannels(int16x8_t v, Int (&out)[Q]) {
    out[0] = vreinterpretq_s32_s16(v);
    if constexpr (Q == 2) out[1] = vreinterpretq_s32_s16(vextq_s16(v, v, 4));
  }
  template <int Q, class Lanes>
  PQI_INLINE static uint8x8_t Line(const void* p, Lanes lanes) {
    return Q == 2 ? Bytes8(p, lanes) : Bytes4(p, lanes);
  }
  template <int Q, int kLines>
  PQI_INLINE static void Columns(const uint8x8_t (&lines)[kLines], Int (&out)[kLines][Q]) {
    PQI_UNROLL for (int y = 0; y < kLines; ++y) SplitChannels<Q>(vreinterpretq_s16_u16(vmovl_u8(lines[y])), out[y]);
  }
  template <int Q, int kLines>
  PQI_INLINE static void WeightColumns(const int8_t (*w)[Q * kLanes], Int (&out)[kLines][Q]) {
    PQI_UNROLL for (int y = 0; y < kLines; ++y) SplitChannels<Q>(vmovl_s8(vreinterpret_s8_u8(Line<Q>(w[y], All()))), out[y]);
  }
  template <int Q, class Lanes>
  PQI_INLINE static void StoreColumn(uint8_t* p, const Int (&v)[Q], Int zero_point, Int top, Lanes lanes) {
    if constexpr (Q == 2) {
      PutBytes8(p, PackHalf(v[0], v[1], zero_point, top), lanes);
    } else {
      PutBytes4(p, PackHalf(v[0], v[0], zero_point, top), lanes);
    }
  }

 private:
  template <class Vector>
  PQI_INLINE static Vector LoadPart(const void* p, Mask m) {
    Vector v = {};
    std::memcpy(&v, p, m.count * sizeof(float));
    return v;
  }
};

}  // namespace
}  // namespace pqi::kernels
