#include "conv/packed_conv.h"

#include <algorithm>
#include <cmath>

namespace pqi::conv {
namespace {

using kernels::ConvShape;
using kernels::KernelSet;

// Sets Output::saturates and code_max (kernels/contract/output.h) where that is proved. Rounding keeps order, so a bound clamps like the
// code that it rounds to; float32 arithmetic can pass the exact bound by a few parts in 2^24 only, and 2^30 leaves half the room of int32.
void ProveSaturation(const kernels::Residual& r, double largest, kernels::Output* output) {
  kernels::Output& o = *output;
  if (o.f32 || r.f32 != nullptr) return;
  if (r.u8 != nullptr) largest += 255.0 * static_cast<double>(r.scale);
  if (!(largest * static_cast<double>(o.inv_scale) < 1 << 30)) return;
  const float lo = std::max(o.act_lo * o.inv_scale, o.v_lo), hi = std::min(o.act_hi * o.inv_scale, o.v_hi);
  const float top = std::nearbyint(hi) + static_cast<float>(o.zero_point);
  o.saturates = std::nearbyint(lo) == static_cast<float>(-o.zero_point) && top >= 0 && top <= 255;
  if (o.saturates) o.code_max = static_cast<uint8_t>(top);
}

}  // namespace

PackedConvU8::PackedConvU8(const KernelSet& set, const ConvShape& shape, const pack::WeightsU8& weights, const Algorithm& algorithm)
    : set_(&set),
      layout_(LayoutConvU8(set, shape, weights, algorithm)),
      step_(weights.step),
      zero_point_(weights.zero_point),
      largest_result_(pack::LargestResult(shape, weights)) {
  packed_.buffer = AlignedBuffer<uint8_t>(layout_.bytes);
  layout_.method->pack_u8(set, layout_, shape, weights, &packed_);
  uint8_t* at = packed_.buffer.data();
  pack::PackChannels(layout_, shape, weights.scale, at + layout_.scale);
  if (layout_.has_bias) pack::PackChannels(layout_, shape, weights.bias, at + layout_.bias);
  if (layout_.has_base) pack::PackChannels(layout_, shape, weights.base, at + layout_.base);
}

void PackedConvU8::Run(const ConvRun<uint8_t>& run, const ConvPart& part, void* scratch) const noexcept {
  if (part.panel_begin >= part.panel_end) return;
  kernels::Output output = run.output;
  ProveSaturation(run.residual, largest_result_, &output);
  layout_.method->run_u8({*set_, layout_, packed_, step_, zero_point_, output}, run, part, scratch);
}

PackedConvF32::PackedConvF32(const KernelSet& set, const ConvShape& shape, const pack::WeightsF32& weights)
    : set_(&set), layout_(LayoutConvF32(set, shape, weights)), buffer_(layout_.bytes) {
  layout_.method->pack_f32(layout_, shape, weights, buffer_.data());
  if (layout_.has_bias) pack::PackChannels(layout_, shape, weights.bias, buffer_.data() + layout_.bias);
}

void PackedConvF32::Run(const ConvRun<float>& run, const ConvPart& part, void* scratch) const noexcept {
  if (part.panel_begin >= part.panel_end) return;
  layout_.method->run_f32({*set_, layout_, buffer_.data()}, run, part, scratch);
}

Executed Describe(const ConvLayout& layout, const Words& words, Isa isa, Arithmetic arithmetic, const std::string& why) {
  if (isa == Isa::kReference) return {IsaName(isa), words.reason};
  std::string as = arithmetic == Arithmetic::kInteger ? "u8s8" : "f32";
  as += words.suffix + WayOf(layout.algorithm.product).suffix + "-" + IsaName(isa);
  std::string reason = words.reason;
  if (!why.empty()) reason += "; " + why;
  if (arithmetic == Arithmetic::kExpandedCodes) reason += "; float input, so the weights are expanded to float32";
  return {as, reason};
}

}  // namespace pqi::conv
