// Weights of a linear layer over rows quantized at run time that stay packed in 2 or 4 bits (kernels/contract/narrow.h).
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/aligned.h"
#include "kernels/kernel_set.h"
#include "kernels/reference/linear_dynamic.h"
#include "pack/arrange.h"

namespace pqi::pack {

// Packed panels are read in units as wide as the widest kernel: one panel or more.
class NarrowPanels {
 public:
  // Bits per code, 2 or 4. 0: the set has no kernels, or the layer does not suit them (wider codes, a base, step 2, short groups, or sums
  // or scales that could leave the kernels' range).
  static int Bits(const kernels::KernelSet& set, const kernels::reference::DynamicLinear& layer);

  // Bits(set, layer) is not 0. Throws std::bad_alloc. The kernel set must outlive this. Pointers of the layer are not kept.
  NarrowPanels(const kernels::KernelSet& set, const kernels::reference::DynamicLinear& layer);

  const kernels::KernelSet& set() const { return *set_; }
  int bits() const { return bits_; }
  int64_t outputs() const { return outputs_; }
  int64_t groups() const { return groups_; }
  int64_t k() const { return k_; }  // k-values of a group, as packed
  int64_t units() const { return units_; }
  int64_t unit_panels() const { return unit_panels_; }
  size_t bytes() const { return buffer_.size(); }
  size_t GroupBytes() const;
  const uint8_t* Panel(int64_t panel) const { return buffer_.data() + static_cast<size_t>(panel) * panel_bytes_; }
  // Parameters of the channels from `channel` on. Scales lie here only where the layer has one group; nullptr without a bias.
  const float* Scale(int64_t channel) const { return At<float>(buffer_.data(), scale_) + channel; }
  const float* Bias(int64_t channel) const { return has_bias_ ? At<float>(buffer_.data(), bias_) + channel : nullptr; }
  const int32_t* ZeroStart() const { return At<int32_t>(buffer_.data(), init_); }  // [KernelSet::u8s8.nr] zeros

  // Bytes from one row of activation codes to the next. A block needs room for SpareRows() rows more, which the kernels read but do not
  // use.
  size_t RowBytes() const;
  int64_t SpareRows() const;
  // Moves the codes at the start of a row to the places where the kernels expect them.
  void ArrangeRow(uint8_t* row) const;

 private:
  void Pack(const kernels::reference::DynamicLinear& layer);

  const kernels::KernelSet* set_;
  int bits_;
  int64_t inputs_, outputs_, groups_;
  int64_t k_ = 0;
  int64_t units_ = 1, unit_panels_ = 1;
  size_t panel_bytes_ = 0;
  size_t scale_ = 0, bias_ = 0, init_ = 0;  // offsets in bytes, behind the panels
  bool has_bias_;
  AlignedBuffer<uint8_t> buffer_;
};

}  // namespace pqi::pack
