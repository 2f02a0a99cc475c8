// How a conv or linear layer lies in memory for one kernel set, and the packing itself.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/aligned.h"
#include "kernels/contract.h"
#include "kernels/shapes.h"

namespace pqi::pack {

// The method follows from the layer alone, so it never depends on the image or the threads, and all methods give the same bits:
//   reference  kernels/reference/conv.h (the kernel set has no tiles)
//   tiles      tile kernels read the input through one pointer per tap; padding is a row of zero points
//   runs       the same with one pointer per kernel row, whose kw*c elements are neighbours in memory; only windows that cross the left or
//              right border are copied
//   gather     few channels per group (a network's first layer): each window is copied into one contiguous row of taps*k elements
//   depthwise  groups = channels = outputs
enum class Method : uint8_t { kReference, kTiles, kRuns, kGather, kDepthwise };
const char* MethodName(Method method);

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

// Everything of a layer is in one buffer. Its arrays are padded with zeros up to `channels`; offsets are in bytes, multiples of 64.
//
// With tiles, runs and gather a panel is the nr channels that a kernel call computes; the last panel of each group is padded.
// kernels/contract.h has the order inside a panel. depthwise: [taps][channels]. reference: the order of the file.
struct ConvLayout {
  Method method = Method::kReference;
  int64_t taps = 1, k = 1;  // as the kernels see them: runs have kh taps of kw*c elements, gather one of kh*kw*c/groups
  kernels::TileShape tile;  // tiles, runs and gather
  int32_t offset = 0;       // the same: what their product subtracts from codes of activations
  int64_t panels_per_group = 1;
  int64_t panels = 1;  // of all groups; 1 where the method has none
  size_t panel_bytes = 0;
  size_t channels = 0;
  int64_t block_rows = 1;  // output pixels whose pointers (or windows) are made at a time
  bool has_bias = false, has_base = false;
  bool depthwise3x3 = false;  // depthwise: bands of rows can go to the kernel of that name
  size_t weights = 0, scale = 0, bias = 0, init = 0, base = 0;
  size_t bytes = 0;
};

// The one place where sizes and offsets are computed. n, h, w of the shape are not read.
ConvLayout LayoutConvU8(const kernels::KernelSet& set, const kernels::ConvShape& shape, bool has_bias, bool has_base);
ConvLayout LayoutConvF32(const kernels::KernelSet& set, const kernels::ConvShape& shape, bool has_bias);

// Throws std::bad_alloc.
AlignedBuffer<uint8_t> PackConvU8(const ConvLayout& layout, const kernels::ConvShape& shape, const WeightsU8& weights);
AlignedBuffer<uint8_t> PackConvF32(const ConvLayout& layout, const kernels::ConvShape& shape, const WeightsF32& weights);

}  // namespace pqi::pack
