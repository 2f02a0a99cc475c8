// Weights of a linear layer over rows that are quantized at run time, for the 8-bit tile kernels.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/aligned.h"
#include "kernels/contract/tile.h"
#include "kernels/kernel_set.h"
#include "kernels/reference/linear_dynamic.h"
#include "pack/arrange.h"

namespace pqi::pack {

// Panels of nr channels as in kernels/contract/tile.h, groups of k-values in the place of taps. Behind them lie, for each panel and group,
// nr scales, code sums and bases. A set without tiles keeps the order of the file, in one panel.
class DynamicPanels {
 public:
  // Throws std::bad_alloc. Pointers of the layer are not kept.
  DynamicPanels(const kernels::KernelSet& set, const kernels::reference::DynamicLinear& layer);

  int64_t panels() const { return panels_; }
  size_t bytes() const { return buffer_.size(); }
  bool has_base() const { return has_base_; }

  // Arrays of one panel and group.
  const int8_t* Codes(int64_t panel, int64_t group) const {
    return At<int8_t>(buffer_.data(), static_cast<size_t>(Line(panel, group)) * group_bytes_);
  }
  const float* Scale(int64_t panel, int64_t group) const { return At<float>(buffer_.data(), scale_) + Line(panel, group) * nr_; }
  const int32_t* CodeSum(int64_t panel, int64_t group) const { return At<int32_t>(buffer_.data(), code_sum_) + Line(panel, group) * nr_; }
  // nullptr where the layer has no base.
  const int32_t* Base(int64_t panel, int64_t group) const {
    return has_base_ ? At<int32_t>(buffer_.data(), base_) + Line(panel, group) * nr_ : nullptr;
  }
  // nr values of one panel; nullptr where the layer has no bias.
  const float* Bias(int64_t panel) const { return has_bias_ ? At<float>(buffer_.data(), bias_) + panel * nr_ : nullptr; }
  const int32_t* ZeroStart() const { return At<int32_t>(buffer_.data(), init_); }  // [nr] zeros

 private:
  void PackTiles(const kernels::TileShape& tile, const kernels::reference::DynamicLinear& layer);
  void KeepOrder(const kernels::reference::DynamicLinear& layer);
  int64_t Line(int64_t panel, int64_t group) const { return panel * groups_ + group; }

  int64_t groups_, nr_;
  bool has_base_, has_bias_;
  int64_t panels_ = 1;
  size_t group_bytes_ = 0;                                            // codes of one group in a panel
  size_t scale_ = 0, code_sum_ = 0, base_ = 0, bias_ = 0, init_ = 0;  // offsets in bytes, behind the codes
  AlignedBuffer<uint8_t> buffer_;
};

}  // namespace pqi::pack
