// What is decided about a layer before its weights are packed: which method runs it, by which algorithm, and where everything lies.
#pragma once

#include <cstddef>
#include <cstdint>

#include "conv/product.h"
#include "kernels/contract/tile.h"
#include "kernels/kernel_set.h"
#include "kernels/shapes.h"
#include "pack/panel.h"
#include "pack/sparse_lists.h"
#include "pack/weights.h"

namespace pqi::conv {

struct ConvMethod;
struct WinogradFilter;

// What the planner decides about a layer of codes (csrc/plan), after the method has proved that the result is exact.
struct Algorithm {
  const ConvMethod* method = nullptr;      // nullptr: the first method of the table that suits the layer
  const WinogradFilter* filter = nullptr;  // not null for Winograd's methods
  Product product = Product::kDot;
  uint32_t depth = 0;  // how many sums of two products kDeferred adds in 16 bits; at least 1 there
};

// A layer for which a method is sought. n, h and w of the shape are those that it will mostly see; a layer that was packed for them runs
// with any.
struct Request {
  const kernels::KernelSet& set;
  const kernels::ConvShape& shape;
  const pack::WeightsU8* codes;  // nullptr: float weights
  bool has_bias;
  Algorithm algorithm;

  bool has_base() const { return codes != nullptr && codes->base != nullptr; }
  int64_t element_bytes() const { return codes != nullptr ? 1 : 4; }
  // Are codes multiplied as they are? Only then may a method bring kernels of its own.
  bool direct() const { return algorithm.filter == nullptr && algorithm.product == Product::kDot; }
  // Are there as many groups as input and output channels, and kernels for that?
  bool depthwise() const { return shape.depthwise() && (codes != nullptr ? set.u8s8_depthwise != nullptr : set.f32_depthwise != nullptr); }
  // The tile of the kernels that multiply; mr is 0 where the set has none.
  kernels::TileShape tile() const {
    if (codes == nullptr) return set.f32;
    return direct() ? set.u8s8 : KernelsOf(set, algorithm.product).shape;
  }
};

// How a tile's kernel reads the windows of its pixels.
enum class Windows : uint8_t {
  kTaps,    // one pointer per tap
  kRuns,    // one pointer per kernel row, whose kw*c elements are neighbours in memory; only windows that cross a border are copied
  kCopies,  // each window is copied into one row of all its taps
};

// A layer as it lies in memory: one buffer, arrays at offsets in bytes that are multiples of 64, each padded with zeros to `channels`.
//
// taps and k are as the kernels see them: a run is one tap of kw*c elements, a line one of kw*c/groups elements up to the next multiple of
// the tile's kr, a copied window one tap of all its elements; Winograd's taps are its positions (times three kernel rows for filters
// along x) of c elements, up to the next multiple of kr.
struct ConvLayout : pack::PanelGrid {
  const ConvMethod* method = nullptr;
  Algorithm algorithm;
  Windows windows = Windows::kTaps;
  int64_t element_bytes = 1;  // of activations and weights: 1 for codes, 4 for floats
  int32_t offset = 0;         // what the kernel's product subtracts from activation codes
  int64_t block_rows = 1;     // output pixels (Winograd: tiles) whose pointers, windows or transforms are made at a time
  int64_t starts = 1;         // start values per channel: one, or one per position
  bool has_bias = false, has_base = false;
  pack::SparseCut sparse;          // the sparse method only
  bool depthwise_columns = false;  // whole rows of pixels can go to the kernel DepthwiseColumnsU8S8
  size_t weights = 0, scale = 0, bias = 0, init = 0, base = 0;
  size_t bytes = 0;
};

}  // namespace pqi::conv
