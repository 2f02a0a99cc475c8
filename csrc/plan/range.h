// Which algorithms are exact for a layer, proved from the ranges of its input codes and the weight codes it really has (docs/numerics.md).
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "kernels/shapes.h"
#include "pack/layout.h"
#include "pack/winograd_filter.h"

namespace pqi::plan {

// The outcome of a proof, with its numbers for people: "transformed codes -45..45 and input 60 wide" or what went beyond which bound.
struct Proof {
  bool exact = false;
  std::string numbers;
  uint32_t depth = 0;  // deferred sums: how many fit 16 bits, at least 1 where exact
};

// Least and largest value.
struct Range {
  int least = 0, largest = 0;
  void Add(int v) {
    least = v < least ? v : least;
    largest = v > largest ? v : largest;
  }
};

// What one of Winograd's filters makes of the codes. All 0 where the layer is not 3x3, stride 1, dilation 1, one group.
struct FilterRanges {
  pack::Winograd winograd = pack::Winograd::kNone;
  Range positions[pack::kWinogradPositions];  // of the transformed codes, by position
  int64_t largest_sum = 0;                    // of factor * sum|code| * max(z - qmin, qmax - z) over the output channels
};

// Everything the proofs need of a layer's codes, found in one pass.
struct CodeRanges {
  int qmin = 0, qmax = 255;
  Range codes;
  bool winograd = false;  // the layer has the shape for it
  std::array<FilterRanges, 4> filters = {
      FilterRanges{pack::Winograd::k1d, {}, 0}, {pack::Winograd::k1d4, {}, 0}, {pack::Winograd::k2d, {}, 0}, {pack::Winograd::k4x4, {}, 0}};
};
CodeRanges FindRanges(const kernels::ConvShape& shape, const pack::WeightsU8& weights);

// Is the layer exact by these products, plain or under a filter?
//   a filter        input codes at most 127 (k1d), 25 (k1d4), 63 (k2d), 15 (k4x4) apart, transformed codes in s8, |factor * acc| < 2^31
//   inner products  the largest activation plus the range of the codes at most 255; no code below -127
//   deferred sums   at least one sum of two products in 16 bits
// Under a filter the last two hold for its transformed values, position by position.
Proof Prove(const CodeRanges& r, pack::Winograd winograd, pack::Product product);

}  // namespace pqi::plan
