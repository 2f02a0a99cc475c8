#include "plan/range.h"

#include <algorithm>
#include <cstdlib>

#include "pack/low_bit.h"

namespace pqi::plan {
namespace {

constexpr int kPositions = pack::kWinogradPositions;
// Each position of B^T d B has four codes, so a transformed input is at most this many times as wide.
constexpr int kInputGrowth = 4;

bool HasWinogradShape(const kernels::ConvShape& s) {
  return s.kh == 3 && s.kw == 3 && s.stride_h == 1 && s.stride_w == 1 && s.dilation_h == 1 && s.dilation_w == 1 && s.groups == 1;
}

std::string Text(const Range& r) { return std::to_string(r.least) + ".." + std::to_string(r.largest); }

Range AllPositions(const CodeRanges& r) {
  Range all;
  for (const Range& p : r.positions) {
    all.Add(p.least);
    all.Add(p.largest);
  }
  return all;
}

int InputWidth(const CodeRanges& r) { return kInputGrowth * (r.qmax - r.qmin); }

// x in [0, largest_x] and codes in `codes`: x0 + y1 - least fits u8, x1 + y0 - least - 128 fits s8.
bool InnerProductFits(int largest_x, const Range& codes) { return largest_x + codes.largest - codes.least <= 255 && codes.least >= -127; }

std::string InnerProductNumbers(int largest_x, const Range& codes) {
  return "input to " + std::to_string(largest_x) + " plus codes " + Text(codes) + " is " +
         std::to_string(largest_x + codes.largest - codes.least) + ", limit 255" +
         (codes.least < -127 ? "; codes must be at least -127" : "");
}

// vpmaddubsw adds two products; `depth` such sums stay within int16 on both sides.
Proof DeferredProof(int largest_x, const Range& codes) {
  const int largest = std::max({-codes.least, codes.largest, 1});
  const int pair = 2 * std::max(largest_x, 1) * largest;
  Proof proof;
  proof.depth = static_cast<uint32_t>(INT16_MAX / pair);
  proof.exact = proof.depth >= 1;
  proof.numbers = "two products are at most " + std::to_string(pair) + ", so " + std::to_string(proof.depth) + " such sums fit 16 bits";
  return proof;
}

}  // namespace

CodeRanges FindRanges(const kernels::ConvShape& s, const pack::WeightsU8& weights) {
  CodeRanges r;
  r.qmin = weights.qmin;
  r.qmax = weights.qmax;
  r.winograd = HasWinogradShape(s);
  const int64_t per_channel = s.taps() * s.group_inputs();
  const int reach = std::max(weights.zero_point - weights.qmin, weights.qmax - weights.zero_point);
  for (int64_t o = 0; o < s.oc; ++o) {
    const int8_t* codes = weights.codes + o * per_channel;
    int64_t sum = 0;
    for (int64_t i = 0; i < per_channel; ++i) {
      r.codes.Add(codes[i]);
      sum += std::abs(codes[i]);
    }
    if (!r.winograd) continue;
    r.largest_quadruple = std::max(r.largest_quadruple, 4 * sum * reach);
    for (int64_t c = 0; c < s.c; ++c) {
      int32_t u[kPositions];
      pack::TransformKernel(codes + c, s.c, u);
      for (int p = 0; p < kPositions; ++p) r.positions[p].Add(u[p]);
    }
  }
  return r;
}

Proof ProveWinograd(const CodeRanges& r) {
  if (!r.winograd) return {false, "not 3x3 with stride 1, dilation 1 and one group", 0};
  const Range u = AllPositions(r);
  const std::string numbers = "transformed codes " + Text(u) + ", transformed input " + std::to_string(InputWidth(r)) +
                              " wide, 4*|acc| to " + std::to_string(r.largest_quadruple);
  const bool exact = u.least >= INT8_MIN && u.largest <= INT8_MAX && InputWidth(r) <= UINT8_MAX && r.largest_quadruple <= INT32_MAX;
  return {exact, exact ? numbers : numbers + "; limits -128..127, 255 and 2147483647", 0};
}

Proof ProveInnerProduct(const CodeRanges& r) { return {InnerProductFits(r.qmax, r.codes), InnerProductNumbers(r.qmax, r.codes), 0}; }

Proof ProveWinogradInnerProduct(const CodeRanges& r) {
  const Proof winograd = ProveWinograd(r);
  if (!winograd.exact) return winograd;
  Proof worst = {true, "", 0};
  int widest = -1;
  for (const Range& p : r.positions) {
    worst.exact = worst.exact && InnerProductFits(InputWidth(r), p);
    if (p.largest - p.least <= widest) continue;
    widest = p.largest - p.least;
    worst.numbers = InnerProductNumbers(InputWidth(r), p);
  }
  return worst;
}

Proof ProveDeferred(const CodeRanges& r) { return DeferredProof(r.qmax, r.codes); }

Proof ProveWinogradDeferred(const CodeRanges& r) {
  const Proof winograd = ProveWinograd(r);
  return winograd.exact ? DeferredProof(InputWidth(r), AllPositions(r)) : winograd;
}

}  // namespace pqi::plan
