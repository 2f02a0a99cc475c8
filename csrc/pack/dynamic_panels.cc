#include "pack/dynamic_panels.h"

#include <algorithm>
#include <cstring>

#include "pack/panel.h"

namespace pqi::pack {

using kernels::reference::DynamicLinear;

DynamicPanels::DynamicPanels(const kernels::KernelSet& set, const DynamicLinear& layer)
    : groups_(layer.groups), nr_(set.u8s8.nr), has_base_(layer.base != nullptr), has_bias_(layer.bias != nullptr) {
  if (set.u8s8.mr == 0) {
    KeepOrder(layer);
  } else {
    PackTiles(set.u8s8, layer);
  }
}

void DynamicPanels::KeepOrder(const DynamicLinear& layer) {
  const size_t outputs = static_cast<size_t>(layer.outputs), pairs = outputs * static_cast<size_t>(groups_);
  size_t bytes = 0;
  Append(&bytes, outputs * static_cast<size_t>(layer.inputs));
  scale_ = Append(&bytes, pairs * sizeof(float));
  if (has_base_) base_ = Append(&bytes, pairs * sizeof(int32_t));
  if (has_bias_) bias_ = Append(&bytes, outputs * sizeof(float));
  buffer_ = AlignedBuffer<uint8_t>(bytes);
  std::memcpy(buffer_.data(), layer.codes, outputs * static_cast<size_t>(layer.inputs));
  std::memcpy(buffer_.data() + scale_, layer.scale, pairs * sizeof(float));
  if (has_base_) std::memcpy(buffer_.data() + base_, layer.base, pairs * sizeof(int32_t));
  if (has_bias_) std::memcpy(buffer_.data() + bias_, layer.bias, outputs * sizeof(float));
}

void DynamicPanels::PackTiles(const kernels::TileShape& tile, const DynamicLinear& layer) {
  const int64_t inputs = layer.inputs, outputs = layer.outputs, k = inputs / groups_, nr = nr_;
  panels_ = CeilDiv(outputs, nr);
  group_bytes_ = static_cast<size_t>(RoundUp(k, tile.kr) * nr);
  const size_t lines = static_cast<size_t>(panels_ * groups_), line_bytes = static_cast<size_t>(nr) * 4;
  size_t bytes = 0;
  Append(&bytes, lines * group_bytes_);
  scale_ = Append(&bytes, lines * line_bytes);
  code_sum_ = Append(&bytes, lines * line_bytes);
  if (has_base_) base_ = Append(&bytes, lines * line_bytes);
  if (has_bias_) bias_ = Append(&bytes, static_cast<size_t>(panels_) * line_bytes);
  init_ = Append(&bytes, line_bytes);
  buffer_ = AlignedBuffer<uint8_t>(bytes);
  uint8_t* memory = buffer_.data();
  for (int64_t o = 0; o < outputs; ++o) {
    const int64_t panel = o / nr, column = o % nr;
    if (has_bias_) At<float>(memory, bias_)[o] = layer.bias[o];
    for (int64_t g = 0; g < groups_; ++g) {
      const int64_t to = Line(panel, g) * nr + column, from = o * groups_ + g;
      uint32_t sum = 0;
      for (int64_t i = 0; i < k; ++i) sum += static_cast<uint32_t>(layer.codes[o * inputs + g * k + i]);
      At<float>(memory, scale_)[to] = layer.scale[from];
      At<int32_t>(memory, code_sum_)[to] = static_cast<int32_t>(sum);
      if (has_base_) At<int32_t>(memory, base_)[to] = layer.base[from];
    }
  }
  for (int64_t panel = 0; panel < panels_; ++panel) {
    const int64_t first = panel * nr, n = std::min(nr, outputs - first);
    PackPanel(tile, groups_, k, layer.codes + first * inputs, n, At<int8_t>(memory, static_cast<size_t>(Line(panel, 0)) * group_bytes_));
  }
}

}  // namespace pqi::pack
