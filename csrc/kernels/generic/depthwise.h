// Depthwise convolution of one output pixel at a time: lanes are channels, and each tap takes one multiply-add.
#pragma once

#include "kernels/contract/depthwise.h"
#include "kernels/generic/compiler.h"
#include "kernels/generic/epilogue.h"

namespace pqi::kernels {
namespace {

PQI_INLINE size_t DepthwisePadded(size_t n) { return (n + kDepthwisePad - 1) / kDepthwisePad * kDepthwisePad; }

template <class S, class Lanes>
PQI_INLINE void DepthwiseChannels(const DepthwiseU8S8& d, size_t padded, size_t c, Lanes lanes) {
  const ChannelEpilogue<S> epilogue(d, c);
  typename S::Int sum = S::LoadInt(d.init + c);
  typename S::Int box = S::SetInt(0);
  for (uint32_t tap = 0; tap < d.taps; ++tap) {
    const typename S::Int x = S::LoadU8(d.a[tap] + c, lanes);
    sum = S::AddInt(sum, S::MulSmall(x, S::LoadS8(d.w + tap * padded + c)));
    if (epilogue.has_base) box = S::AddInt(box, x);
  }
  box = S::SubInt(box, S::SetInt(d.zero_point * static_cast<int32_t>(d.taps)));
  epilogue.Finish(sum, box, c, c, lanes);
}

template <class S>
void DepthwiseU8S8Kernel(const DepthwiseU8S8& d) noexcept {
  const size_t padded = DepthwisePadded(d.n);
  size_t c = 0;
  for (; c + S::kLanes <= d.n; c += S::kLanes) DepthwiseChannels<S>(d, padded, c, typename S::All());
  if (c < d.n) DepthwiseChannels<S>(d, padded, c, S::First(d.n - c));
}

template <class S, class Lanes>
PQI_INLINE void DepthwiseChannels(const DepthwiseF32& d, const OutputStage<S>& output, size_t padded, size_t c, Lanes lanes) {
  typename S::Float sum = S::SetFloat(0);
  for (uint32_t tap = 0; tap < d.taps; ++tap) {
    sum = S::Fma(S::LoadFloat(d.a[tap] + c, lanes), S::LoadFloat(d.w + tap * padded + c), sum);
  }
  FinishFloat<S>(sum, d.bias != nullptr ? d.bias + c : nullptr, d.residual.f32 != nullptr ? d.residual.f32 + c : nullptr, output, c, lanes);
}

template <class S>
void DepthwiseF32Kernel(const DepthwiseF32& d) noexcept {
  const OutputStage<S> output(FloatOutput(d), d.out);
  const size_t padded = DepthwisePadded(d.n);
  size_t c = 0;
  for (; c + S::kLanes <= d.n; c += S::kLanes) DepthwiseChannels<S>(d, output, padded, c, typename S::All());
  if (c < d.n) DepthwiseChannels<S>(d, output, padded, c, S::First(d.n - c));
}

}  // namespace
}  // namespace pqi::kernels
