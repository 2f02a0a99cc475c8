// Convolutions and linear layers on one ISA: weights packed once, then any part of the output computed by any thread.
//
// The method follows from the layer alone, so it never depends on the image or the threads, and all methods give the same bits:
//   tiles      tile kernels read the input through row pointers; padding is a row of zero points
//   gather     few channels per group (a network's first layer): each tile's windows are copied into contiguous rows of taps*k elements
//   depthwise  groups = channels = outputs
//   reference  kernels/reference/conv.h (the kernel set has no tiles)
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/aligned.h"
#include "kernels/contract.h"
#include "kernels/shapes.h"

namespace pqi::pack {

enum class Method : uint8_t { kReference, kTiles, kGather, kDepthwise };
const char* MethodName(Method method);

// Where everything of a packed layer lies in its one buffer. Computed in one place: LayoutConv.
struct ConvLayout {
  Method method = Method::kReference;
  int64_t taps = 1, k = 1;  // as the kernels see them: with kGather one tap of kh*kw*c/groups
  kernels::TileShape tile;  // tiles and gather
  int64_t panels_per_group = 1;
  int64_t panels = 1;  // of all groups; what a part's panel range counts
  size_t panel_bytes = 0;
  size_t channels = 0;                                          // elements of each parameter array, padding included
  size_t weights = 0, scale = 0, bias = 0, init = 0, base = 0;  // offsets in bytes
  size_t bytes = 0;
};

// Weights in the order of the file; borrowed.
struct WeightsU8 {
  const int8_t* codes = nullptr;  // [oc][kh][kw][c/groups]
  int32_t step = 1;
  const float* scale = nullptr;   // [oc] f32(s_a * s_w[c])
  const float* bias = nullptr;    // [oc]; nullptr = none
  const int32_t* base = nullptr;  // [oc]; nullptr = all 0
  int32_t zero_point = 0;         // z_a
};
struct WeightsF32 {
  const float* weights = nullptr;  // [oc][kh][kw][c/groups]
  const float* bias = nullptr;
};

// What changes from run to run. `shape` is the one packed, with any n, h, w. T is the input's type; residual strides are ignored: a
// residual has the shape of y. With float inputs only act_lo and act_hi of `output` are read, and y is float.
template <typename T>
struct ConvRun {
  kernels::ConvShape shape;
  const T* x = nullptr;
  kernels::Residual residual;
  kernels::Output output;
  void* y = nullptr;
};

// A piece of the output: pixels [row_begin, row_end) by panels [panel_begin, panel_end). May be empty.
struct ConvPart {
  int64_t row_begin = 0, row_end = 0;
  int64_t panel_begin = 0, panel_end = 0;
};
// Part `index` of `parts` that together cover `rows` x `panels` once, as nearly equal as a grid allows.
ConvPart SplitConv(int64_t rows, int64_t panels, int parts, int index);

class PackedConvU8 {
 public:
  // n, h, w of the shape are not read. Throws std::bad_alloc.
  PackedConvU8(const kernels::KernelSet& set, const kernels::ConvShape& shape, const WeightsU8& weights);

  const ConvLayout& layout() const { return layout_; }
  // Scratch of one thread for images of any size, 64-byte aligned.
  size_t ScratchBytes() const { return scratch_bytes_; }
  void Run(const ConvRun<uint8_t>& run, const ConvPart& part, void* scratch) const noexcept;

 private:
  const kernels::KernelSet* set_;
  ConvLayout layout_;
  size_t scratch_bytes_;
  int32_t step_;
  int32_t zero_point_;
  AlignedBuffer<uint8_t> buffer_;
};

class PackedConvF32 {
 public:
  PackedConvF32(const kernels::KernelSet& set, const kernels::ConvShape& shape, const WeightsF32& weights);

  const ConvLayout& layout() const { return layout_; }
  size_t ScratchBytes() const { return scratch_bytes_; }
  void Run(const ConvRun<float>& run, const ConvPart& part, void* scratch) const noexcept;

 private:
  const kernels::KernelSet* set_;
  ConvLayout layout_;
  size_t scratch_bytes_;
  AlignedBuffer<uint8_t> buffer_;
};

}  // namespace pqi::pack
