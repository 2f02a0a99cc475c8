// Which algorithms are exact for a layer, proved from the ranges of its input codes and the weight codes it really has (docs/numerics.md).
#pragma once

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
  FilterRanges winograd_1d = {pack::Winograd::k1d, {}, 0}, winograd_1d4 = {pack::Winograd::k1d4, {}, 0},
               winograd_2d = {pack::Winograd::k2d, {}, 0}, winograd_4x4 = {pack::Winograd::k4x4, {}, 0};
};
CodeRanges FindRanges(const kernels::ConvShape& shape, const pack::WeightsU8& weights);

// Input codes at most 63 (F(2,3): 127, F(4,3): 25, F(4x4): 15) apart, transformed codes in s8, |4 * acc| (2, 8, 16) < 2^31.
Proof ProveWinograd(const CodeRanges& r);
Proof ProveWinograd1d(const CodeRanges& r);
Proof ProveWinograd1d4(const CodeRanges& r);
Proof ProveWinograd4x4(const CodeRanges& r);
// The largest activation plus the range of the codes at most 255; no code below -127.
Proof ProveInnerProduct(const CodeRanges& r);
Proof ProveWinogradInnerProduct(const CodeRanges& r);
Proof ProveWinograd1dInnerProduct(const CodeRanges& r);
Proof ProveWinograd1d4InnerProduct(const CodeRanges& r);
// At least one sum of two products in 16 bits.
Proof ProveDeferred(const CodeRanges& r);
Proof ProveWinogradDeferred(const CodeRanges& r);
Proof ProveWinograd1dDeferred(const CodeRanges& r);
Proof ProveWinograd1d4Deferred(const CodeRanges& r);
Proof ProveWinograd4x4Deferred(const CodeRanges& r);

}  // namespace pqi::plan
