// Convolutions and linear layers on one ISA: weights packed once, then any part of the output computed by any thread.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/aligned.h"
#include "kernels/contract/output.h"
#include "kernels/kernel_set.h"
#include "kernels/shapes.h"
#include "pack/layout.h"
#include "pack/pairs.h"
#include "pack/split.h"

namespace pqi::pack {

// What changes from run to run. `shape` is the one packed, with any n, h, w. T is the input's type. A residual has the shape of y and is
// dense: its stride is not read. With float inputs y is float, and only act_lo and act_hi of `output` are read.
template <typename T>
struct ConvRun {
  kernels::ConvShape shape;
  const T* x = nullptr;
  kernels::Residual residual;
  kernels::Output output;
  void* y = nullptr;
  size_t y_stride = 0;  // elements from one output pixel to the next
};

// The residual and the output of a pixel and channel.
kernels::Residual ResidualAt(const kernels::Residual& r, const kernels::ConvShape& s, int64_t row, int64_t channel);
void* OutputAt(void* y, bool f32, size_t y_stride, int64_t row, int64_t channel);

// The output of the layer for Split.
Work OutputWork(const ConvLayout& layout, const kernels::ConvShape& shape);

class PackedConvU8 {
 public:
  // n, h, w of the shape are not read. Throws std::bad_alloc. The kernel set must outlive this. The caller has proved the algorithm exact.
  PackedConvU8(const kernels::KernelSet& set, const kernels::ConvShape& shape, const WeightsU8& weights, const Algorithm& algorithm = {});

  const ConvLayout& layout() const { return layout_; }
  size_t WeightBytes() const { return layout_.bytes + pairs_.bytes(); }
  // Scratch of one thread, 64-byte aligned; `shape` is the one packed with the n, h, w to come.
  size_t ScratchBytes(const kernels::ConvShape& shape) const;
  void Run(const ConvRun<uint8_t>& run, const ConvPart& part, void* scratch) const noexcept;

 private:
  const kernels::KernelSet* set_;
  ConvLayout layout_;
  size_t scratch_bytes_;
  int32_t step_;
  int32_t zero_point_, qmin_, qmax_;
  LeastCodes least_ = {};
  double largest_result_;  // before a residual
  AlignedBuffer<uint8_t> buffer_;
  PairExtras pairs_;
};

class PackedConvF32 {
 public:
  PackedConvF32(const kernels::KernelSet& set, const kernels::ConvShape& shape, const WeightsF32& weights);

  const ConvLayout& layout() const { return layout_; }
  size_t WeightBytes() const { return layout_.bytes; }
  size_t ScratchBytes(const kernels::ConvShape& shape) const;
  void Run(const ConvRun<float>& run, const ConvPart& part, void* scratch) const noexcept;

 private:
  const kernels::KernelSet* set_;
  ConvLayout layout_;
  size_t scratch_bytes_;
  AlignedBuffer<uint8_t> buffer_;
};

}  // namespace pqi::pack
