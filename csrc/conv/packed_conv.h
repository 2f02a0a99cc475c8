// Convolutions and linear layers on one ISA: weights packed once, then any part of the output computed by any thread.
#pragma once

#include <cstddef>
#include <cstdint>

#include "conv/layout.h"
#include "conv/method.h"
#include "conv/run.h"
#include "conv/split.h"
#include "kernels/kernel_set.h"
#include "kernels/shapes.h"

namespace pqi::conv {

class PackedConvU8 {
 public:
  using Element = uint8_t;

  // n, h, w of the shape are those that the layer will mostly see (conv/layout.h, Request). Throws std::bad_alloc. The kernel set must
  // outlive this. The caller has proved that the algorithm is exact for these weights.
  PackedConvU8(const kernels::KernelSet& set, const kernels::ConvShape& shape, const pack::WeightsU8& weights,
               const Algorithm& algorithm = {});

  const ConvLayout& layout() const { return layout_; }
  Words words() const { return layout_.method->describe(layout_, TileRows(*set_, layout_, packed_)); }
  size_t WeightBytes() const { return layout_.bytes + packed_.pairs.bytes() + packed_.sparse.bytes(); }
  // Scratch memory of one thread, 64-byte aligned. `shape` is the one packed, with the n, h, w to come.
  size_t ScratchBytes(const kernels::ConvShape& shape) const { return layout_.method->scratch_bytes(layout_, shape); }
  Work OutputWork(const kernels::ConvShape& shape) const { return layout_.method->work(layout_, shape); }
  void Run(const ConvRun<uint8_t>& run, const ConvPart& part, void* scratch) const noexcept;

 private:
  const kernels::KernelSet* set_;
  ConvLayout layout_;
  int32_t step_;
  int32_t zero_point_;
  double largest_result_;  // |y| before a residual
  Packed packed_;
};

class PackedConvF32 {
 public:
  using Element = float;

  PackedConvF32(const kernels::KernelSet& set, const kernels::ConvShape& shape, const pack::WeightsF32& weights);

  const ConvLayout& layout() const { return layout_; }
  Words words() const { return layout_.method->describe(layout_, layout_.tile.mr); }
  size_t WeightBytes() const { return layout_.bytes; }
  size_t ScratchBytes(const kernels::ConvShape& shape) const { return layout_.method->scratch_bytes(layout_, shape); }
  Work OutputWork(const kernels::ConvShape& shape) const { return layout_.method->work(layout_, shape); }
  void Run(const ConvRun<float>& run, const ConvPart& part, void* scratch) const noexcept;

 private:
  const kernels::KernelSet* set_;
  ConvLayout layout_;
  AlignedBuffer<uint8_t> buffer_;
};

// How a layer computes: with integers, with floats as the file stores them, or with floats because its input is float although its weights
// are codes.
enum class Arithmetic { kInteger, kFloat, kExpandedCodes };

struct Executed {
  std::string as;  // "u8s8-winograd1d-avx512vnni"
  std::string reason;
};
// How a session shows a packed layer. `why` is the planner's reason, which may be empty.
Executed Describe(const ConvLayout& layout, const Words& words, Isa isa, Arithmetic arithmetic, const std::string& why);

}  // namespace pqi::conv
