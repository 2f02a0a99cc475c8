// The epilogue that leads from integer or float sums to outputs: scale, bias, residual, activation, quantize (docs/numerics.md).
//
// The common integer case, codes out and nothing but a residual of codes in between, is finished in registers
// (generic/epilogue_registers.h). Otherwise tiles leave their sums in a small array on the stack and pass it here, so that this code exists
// once per ISA instead of once per tile height.
//
// Every header of generic/ opens an anonymous namespace and is included by exactly one translation unit per ISA, after its simd.h:
// nothing compiled for one ISA can be picked by the linker for another.
#pragma once

#include "kernels/contract/output.h"
#include "kernels/contract/tile.h"
#include "kernels/generic/compiler.h"

namespace pqi::kernels {
namespace {

// Activation, quantize, store, for all lanes or the first ones, as the type `Lanes` says.
//
// For codes the activation costs nothing. f32(x * r) grows with x, so clamping x and then multiplying equals multiplying and then clamping
// to the bounds' products, and two clamps in a row are one. A NaN passes through both bounds and becomes the zero point at the end.
template <class S>
struct OutputStage {
  using Float = typename S::Float;
  using Int = typename S::Int;
  Float inv_scale, lo, hi;  // bounds of x * inv_scale for codes, of x for floats
  Int zero_point, short_zero_point, top;
  bool f32;
  uint8_t* codes;
  float* floats;

  PQI_INLINE OutputStage(const Output& o, void* out)
      : inv_scale(S::SetFloat(o.inv_scale)),
        lo(S::SetFloat(o.f32 ? o.act_lo : Clamped(o.act_lo * o.inv_scale, o))),
        hi(S::SetFloat(o.f32 ? o.act_hi : Clamped(o.act_hi * o.inv_scale, o))),
        zero_point(S::SetInt(o.zero_point)),
        short_zero_point(S::SetShort(o.zero_point)),
        top(S::SetBytes(-1)),  // 255: the bounds have kept x from larger codes than the type may have
        f32(o.f32),
        codes(static_cast<uint8_t*>(out)),
        floats(static_cast<float*>(out)) {}

  // MaxF and MinF give their second argument where one is NaN or both are zero, so x passes there.
  PQI_INLINE Float Clamp(Float x) const { return S::MinF(hi, S::MaxF(lo, x)); }
  // The code of x less its zero point.
  PQI_INLINE Int Rounded(Float x) const { return S::ToIntNearest(Clamp(S::MulF(x, inv_scale))); }
  PQI_INLINE Int Quantize(Float x) const { return S::AddInt(Rounded(x), zero_point); }

  template <class Lanes>
  PQI_INLINE void Put(Float x, size_t at, Lanes lanes) const {
    if (f32) {
      S::StoreFloat(floats + at, Clamp(x), lanes);
    } else {
      S::StoreU8(codes + at, Quantize(x), lanes);
    }
  }
  // Codes of a whole vector of bytes: x(0) to x(3) give four vectors of floats.
  template <class Fn>
  PQI_INLINE void PutFour(size_t at, Fn&& x) const {
    const Int first = Rounded(x(size_t{0})), second = Rounded(x(size_t{1})), third = Rounded(x(size_t{2})), fourth = Rounded(x(size_t{3}));
    S::StoreInt(reinterpret_cast<int32_t*>(codes + at), S::PackBytes(first, second, third, fourth, short_zero_point, top));
  }

 private:
  PQI_INLINE static float Clamped(float v, const Output& o) { return v < o.v_lo ? o.v_lo : (v > o.v_hi ? o.v_hi : v); }
};

// Codes to floats: f32(f32(q - z) * s).
template <class S>
struct DequantizeStage {
  typename S::Int zero_point;
  typename S::Float scale;

  PQI_INLINE DequantizeStage(int32_t z, float s) : zero_point(S::SetInt(z)), scale(S::SetFloat(s)) {}
  template <class Lanes>
  PQI_INLINE typename S::Float Get(const uint8_t* x, Lanes lanes) const {
    return S::MulF(S::ToFloat(S::SubInt(S::LoadU8(x, lanes), zero_point)), scale);
  }
};

// The parameters of kLanes output channels, and what they do to the sums of a row.
template <class S>
struct ChannelEpilogue {
  using Float = typename S::Float;
  using Int = typename S::Int;
  Float scale, bias;
  Int base;
  bool has_bias, has_base, doubled;  // doubled: the step is 2
  const Residual& residual;
  DequantizeStage<S> residual_stage;
  OutputStage<S> output;

  template <class Params>
  PQI_INLINE ChannelEpilogue(const Params& p, size_t channel)
      : scale(S::LoadFloat(p.scale + channel)),
        bias(p.bias != nullptr ? S::LoadFloat(p.bias + channel) : S::SetFloat(0)),
        base(p.base != nullptr ? S::LoadInt(p.base + channel) : S::SetInt(0)),
        has_bias(p.bias != nullptr),
        has_base(p.base != nullptr),
        doubled(p.step == 2),
        residual(p.residual),
        residual_stage(p.residual.zero_point, p.residual.scale),
        output(p.output, p.out) {}

  // `sum` is sum((q_a - z_a) * code) of each channel; `box` is read only where there is a base.
  template <class Lanes>
  PQI_INLINE void Finish(Int sum, Int box, size_t residual_at, size_t out_at, Lanes lanes) const {
    Int acc = doubled ? S::AddInt(sum, sum) : sum;
    if (has_base) acc = S::AddInt(acc, S::MulInt(base, box));
    Float y = S::MulF(S::ToFloat(acc), scale);
    if (has_bias) y = S::AddF(y, bias);
    if (residual.u8 != nullptr) {
      y = S::AddF(y, residual_stage.Get(residual.u8 + residual_at, lanes));
    } else if (residual.f32 != nullptr) {
      y = S::AddF(y, S::LoadFloat(residual.f32 + residual_at, lanes));
    }
    output.Put(y, out_at, lanes);
  }
};

template <class S, class Lanes>
PQI_INLINE void FinishTileColumn(const TileU8S8& t, const int32_t* sums, size_t m, size_t stride, size_t j, Lanes lanes) {
  const ChannelEpilogue<S> epilogue(t, j);
  for (size_t i = 0; i < m; ++i) {
    const typename S::Int box = S::SetInt(t.base != nullptr ? t.box[i] : 0);
    epilogue.Finish(S::LoadInt(sums + i * stride + j), box, i * t.residual.stride + j, i * t.out_stride + j, lanes);
  }
}

// FinishTileColumn for rows that have parameters of their own; `t.scale` is that of the weights.
template <class S, class Lanes>
PQI_INLINE void FinishDynamicColumn(const TileU8S8& t, const int32_t* sums, size_t m, size_t stride, size_t j, Lanes lanes) {
  const DynamicRows& rows = *t.rows;
  const OutputStage<S> output(t.output, t.out);
  const typename S::Int code_sum = S::LoadInt(rows.code_sum + j);
  const typename S::Int base = t.base != nullptr ? S::LoadInt(t.base + j) : S::SetInt(0);
  const typename S::Float scale = S::LoadFloat(t.scale + j);
  const typename S::Float bias = t.bias != nullptr ? S::LoadFloat(t.bias + j) : S::SetFloat(0);
  for (size_t i = 0; i < m; ++i) {
    typename S::Int acc = S::AddInt(S::LoadInt(sums + i * stride + j), S::MulInt(code_sum, S::SetInt(rows.shift[i])));
    if (t.step == 2) acc = S::AddInt(acc, acc);
    if (t.base != nullptr) acc = S::AddInt(acc, S::MulInt(base, S::SetInt(t.box[i])));
    typename S::Float y = S::ToFloat(acc);
    if (rows.partial == nullptr) {
      y = S::MulF(S::MulF(y, S::SetFloat(rows.scale[i])), scale);
    } else {
      float* partial = rows.partial + i * stride + j;
      y = S::MulF(y, scale);
      if (!rows.first) y = S::AddF(S::LoadFloat(partial), y);
      if (!rows.last) {
        S::StoreFloat(partial, y);
        continue;
      }
      y = S::MulF(y, S::SetFloat(rows.scale[i]));
    }
    if (t.bias != nullptr) y = S::AddF(y, bias);
    output.Put(y, i * t.out_stride + j, lanes);
  }
}

template <class S>
PQI_INLINE void FinishDynamicTile(const TileU8S8& t, const int32_t* sums, size_t m, size_t stride) {
  size_t j = 0;
  for (; j + S::kLanes <= t.n; j += S::kLanes) FinishDynamicColumn<S>(t, sums, m, stride, j, typename S::All());
  if (j < t.n) FinishDynamicColumn<S>(t, sums, m, stride, j, S::First(t.n - j));
}

// The epilogue of what FinishRows (generic/epilogue_registers.h) does not do. sums: [m][stride], start values included.
template <class S>
__attribute__((noinline)) void FinishTile(const TileU8S8& t, const int32_t* sums, size_t m, size_t stride) {
  if (t.rows != nullptr) return FinishDynamicTile<S>(t, sums, m, stride);
  size_t j = 0;
  for (; j + S::kLanes <= t.n; j += S::kLanes) FinishTileColumn<S>(t, sums, m, stride, j, typename S::All());
  if (j < t.n) FinishTileColumn<S>(t, sums, m, stride, j, S::First(t.n - j));
}

// The epilogue of a float layer: bias, residual, activation.
template <class S, class Lanes>
PQI_INLINE void FinishFloat(typename S::Float sum, const float* bias, const float* residual, const OutputStage<S>& output, size_t out_at,
                            Lanes lanes) {
  typename S::Float y = sum;
  if (bias != nullptr) y = S::AddF(y, S::LoadFloat(bias));
  if (residual != nullptr) y = S::AddF(y, S::LoadFloat(residual, lanes));
  S::StoreFloat(output.floats + out_at, output.Clamp(y), lanes);
}

template <class Params>
PQI_INLINE Output FloatOutput(const Params& p) {
  Output o;
  o.act_lo = p.act_lo;
  o.act_hi = p.act_hi;
  o.f32 = true;
  return o;
}

template <class S>
__attribute__((noinline)) void FinishTile(const TileF32& t, const float* sums, size_t m, size_t stride) {
  const OutputStage<S> output(FloatOutput(t), t.out);
  for (size_t i = 0; i < m; ++i) {
    const float* residual = t.residual.f32 != nullptr ? t.residual.f32 + i * t.residual.stride : nullptr;
    const auto finish = [&](size_t j, auto lanes) {
      FinishFloat<S>(S::LoadFloat(sums + i * stride + j), t.bias != nullptr ? t.bias + j : nullptr,
                     residual != nullptr ? residual + j : nullptr, output, i * t.out_stride + j, lanes);
    };
    size_t j = 0;
    for (; j + S::kLanes <= t.n; j += S::kLanes) finish(j, typename S::All());
    if (j < t.n) finish(j, S::First(t.n - j));
  }
}

}  // namespace
}  // namespace pqi::kernels
