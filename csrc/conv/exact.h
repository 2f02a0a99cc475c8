// Which algorithms are exact for a layer, proved from the ranges of its activation codes and the weight codes that it really has
// (docs/numerics.md). The proofs stand here, beside the methods whose arithmetic they are about; the planner (csrc/plan) asks for them.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "conv/product.h"
#include "conv/winograd_filter.h"
#include "kernels/shapes.h"
#include "pack/weights.h"

namespace pqi::conv {

// The outcome of a proof.
struct Proof {
  bool exact = false;
  // For people: "transformed codes -45..45 and input 60 wide", or what went beyond which bound.
  std::string numbers;
  uint32_t depth = 0;  // how many sums of two products fit 16 bits: for deferred sums only, at least 1 where exact
};

// Least and largest value.
struct Range {
  int least = 0, largest = 0;
  void Add(int v) {
    least = v < least ? v : least;
    largest = v > largest ? v : largest;
  }
};

// What one of Winograd's filters makes of the codes. All 0 where the layer has another shape than Winograd's.
struct FilterRanges {
  Range positions[pack::kMostPositions];  // transformed codes, by position
  int64_t largest_sum = 0;                // the largest factor * sum|code| * max(z - qmin, qmax - z) of any output channel
};

// Everything that the proofs need of a layer's codes, found in one pass.
struct CodeRanges {
  int qmin = 0, qmax = 255;
  Range codes;
  bool winograd = false;                                    // does the layer have the shape for Winograd's filters?
  std::array<FilterRanges, kWinogradFilters> filters = {};  // in the order of AllWinogradFilters
};
CodeRanges FindRanges(const kernels::ConvShape& shape, const pack::WeightsU8& weights);

// 3x3, stride 1, dilation 1, one group.
bool HasWinogradShape(const kernels::ConvShape& shape);
// Why rows of k codes do not suit inner products, or "".
std::string InnerProductMisfit(int64_t k);

// Are these products of the codes exact?
//   dot             always
//   inner products  if the largest activation plus the range of the codes is at most 255, and no code is below -127
//   deferred sums   if at least one sum of two products fits 16 bits
Proof ProveProduct(const CodeRanges& r, Product product);
// Are they under this filter? Activation codes may be at most 127 (F(2,3)), 25 (F(4,3)), 63 (F(2x2,3x3)) or 15 (F(4x4,3x3)) apart, the
// transformed codes must fit s8, and |factor * acc| must be below 2^31. The conditions of the products then hold for the transformed
// values, position by position.
Proof ProveFilter(const CodeRanges& r, const WinogradFilter& filter, Product product);

}  // namespace pqi::conv
