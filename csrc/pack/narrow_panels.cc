#include "pack/narrow_panels.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace pqi::pack {
namespace {

using kernels::reference::DynamicLinear;

constexpr int64_t kShortestGroup = 16;
// Sums of 8-bit activations times codes times 2^(8 - bits) fit int32.
constexpr int64_t kLongestGroup = 65793;

}  // namespace

int NarrowPanels::Bits(const kernels::KernelSet& set, const DynamicLinear& layer) {
  const int64_t k = layer.inputs / layer.groups;
  if (set.narrow.nr == 0 || layer.base != nullptr || layer.step != 1) return 0;
  if (k < kShortestGroup || k > (layer.groups == 1 ? kLongestGroup : kernels::kNarrowExact)) return 0;
  const int8_t* end = layer.codes + layer.outputs * layer.inputs;
  const auto range = std::minmax_element(layer.codes, end);
  const int lo = *range.first, hi = *range.second;
  if (lo < -8 || hi > 7) return 0;
  const int bits = lo < -2 || hi > 1 ? 4 : 2;
  // A scale divided by a power of two must not lose bits.
  const float least = std::ldexp(std::numeric_limits<float>::min(), set.narrow.shift[bits / 4]);
  for (int64_t i = 0; i < layer.outputs * layer.groups; ++i) {
    if (std::fabs(layer.scale[i]) < least) return 0;
  }
  return bits;
}

NarrowPanels::NarrowPanels(const kernels::KernelSet& set, const DynamicLinear& layer)
    : set_(&set),
      bits_(Bits(set, layer)),
      inputs_(layer.inputs),
      outputs_(layer.outputs),
      groups_(layer.groups),
      has_bias_(layer.bias != nullptr) {
  const int64_t nr = set.narrow.nr, width = std::max<int64_t>(nr, set.u8s8.nr);
  k_ = RoundUp(inputs_ / groups_, 4 * 8 / bits_);
  unit_panels_ = width / nr;
  units_ = CeilDiv(outputs_, width);
  panel_bytes_ = static_cast<size_t>(groups_) * GroupBytes();
  Pack(layer);
}

size_t NarrowPanels::GroupBytes() const { return static_cast<size_t>(set_->narrow.nr * (k_ * bits_ / 8 + 4)); }

// An odd number of cache lines: rows a multiple of 4096 bytes apart would meet in the same few sets of L1.
size_t NarrowPanels::RowBytes() const { return static_cast<size_t>(((groups_ * k_ + 63) / 64 | 1) * 64); }

int64_t NarrowPanels::SpareRows() const { return set_->narrow.reads; }

void NarrowPanels::Pack(const DynamicLinear& layer) {
  const int64_t nr = set_->narrow.nr, k = inputs_ / groups_, fields = 8 / bits_, packed = units_ * unit_panels_;
  const size_t floats = static_cast<size_t>(packed * nr) * sizeof(float);
  size_t bytes = 0;
  Append(&bytes, static_cast<size_t>(packed) * panel_bytes_);
  if (groups_ == 1) scale_ = Append(&bytes, floats);
  if (has_bias_) bias_ = Append(&bytes, floats);
  init_ = Append(&bytes, static_cast<size_t>(set_->u8s8.nr) * sizeof(int32_t));
  buffer_ = AlignedBuffer<uint8_t>(bytes);
  uint8_t* memory = buffer_.data();
  for (int64_t o = 0; o < outputs_; ++o) {
    if (has_bias_) At<float>(memory, bias_)[o] = layer.bias[o];
    if (groups_ == 1) At<float>(memory, scale_)[o] = layer.scale[o];
    uint8_t* panel = memory + static_cast<size_t>(o / nr) * panel_bytes_;
    for (int64_t g = 0; g < groups_; ++g) {
      uint8_t* group = panel + static_cast<size_t>(g) * GroupBytes();
      const int8_t* codes = layer.codes + o * inputs_ + g * k;
      for (int64_t i = 0; i < k; ++i) {
        const int64_t line = i / (4 * fields), field = i / 4 % fields;
        const int code = codes[i] & ((1 << bits_) - 1);
        group[line * nr * 4 + o % nr * 4 + i % 4] |= static_cast<uint8_t>(code << (field * bits_));
      }
      const float scale = std::ldexp(layer.scale[o * groups_ + g], -set_->narrow.shift[bits_ / 4]);
      std::memcpy(group + nr * k_ * bits_ / 8 + o % nr * 4, &scale, sizeof scale);
    }
  }
}

void NarrowPanels::ArrangeRow(uint8_t* row) const {
  const size_t k = static_cast<size_t>(inputs_ / groups_), packed = static_cast<size_t>(k_);
  if (k == packed) return;
  for (size_t g = static_cast<size_t>(groups_); g-- > 0;) {
    std::memmove(row + g * packed, row + g * k, k);
    std::memset(row + g * packed + k, 0, packed - k);
  }
}

}  // namespace pqi::pack
