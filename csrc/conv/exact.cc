#include "conv/exact.h"

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <utility>

namespace pqi::conv {
namespace {

std::string Text(const Range& r) { return std::to_string(r.least) + ".." + std::to_string(r.largest); }

Range AllPositions(const FilterRanges& f) {
  Range all;
  for (const Range& p : f.positions) {
    all.Add(p.least);
    all.Add(p.largest);
  }
  return all;
}

// How far apart the values of a position of the transformed input can be.
int InputWidth(const CodeRanges& r, const WinogradFilter& filter, int position) {
  const InputWeights weights = filter.input_weights(position);
  return (weights.added + weights.subtracted) * (r.qmax - r.qmin);
}

// The least and the largest transformed codes of a filter, lane by lane: lanes are compared at once, and all of them once at the end.
struct LaneRanges {
  pack::CodeLanes least[pack::kMostPositions] = {}, largest[pack::kMostPositions] = {};
};

// Adds the kernels of all input channels of one output channel.
void AddKernels(const WinogradFilter& filter, const int8_t* codes, int64_t channels, LaneRanges* ranges) {
  const int pieces = filter.positions() * filter.taps();
  for (int64_t c = 0; c < channels; c += pack::kCodeLanes) {
    pack::CodeLanes u[pack::kMostPositions];
    filter.codes.codes(codes + c, channels, std::min<int64_t>(pack::kCodeLanes, channels - c), u);
    for (int t = 0; t < pieces; ++t) {
      pack::CodeLanes &least = ranges->least[t], &largest = ranges->largest[t];
      for (int i = 0; i < pack::kCodeLanes; ++i) {
        least.v[i] = std::min(least.v[i], u[t].v[i]);
        largest.v[i] = std::max(largest.v[i], u[t].v[i]);
      }
    }
  }
}

void FindPositions(const WinogradFilter& filter, const LaneRanges& ranges, FilterRanges* f) {
  for (int t = 0; t < filter.positions() * filter.taps(); ++t) {
    f->positions[t / filter.taps()].Add(*std::min_element(std::begin(ranges.least[t].v), std::end(ranges.least[t].v)));
    f->positions[t / filter.taps()].Add(*std::max_element(std::begin(ranges.largest[t].v), std::end(ranges.largest[t].v)));
  }
}

int LargestWidth(const CodeRanges& r, const WinogradFilter& filter) {
  int width = 0;
  for (int p = 0; p < filter.positions(); ++p) width = std::max(width, InputWidth(r, filter, p));
  return width;
}

// The filter itself, before its products are looked at.
Proof ProveTransform(const CodeRanges& r, const WinogradFilter& filter, const FilterRanges& f) {
  if (!r.winograd) return {false, "not 3x3 with stride 1, dilation 1 and one group", 0};
  const Range u = AllPositions(f);
  const int width = LargestWidth(r, filter);
  if (width > UINT8_MAX) return {false, "transformed input " + std::to_string(width) + " wide, limit 255", 0};
  const std::string numbers = "transformed codes " + Text(u) + ", transformed input " + std::to_string(width) + " wide, " +
                              std::to_string(filter.factor) + "*|acc| to " + std::to_string(f.largest_sum);
  const bool exact = u.least >= INT8_MIN && u.largest <= INT8_MAX && f.largest_sum <= INT32_MAX;
  return {exact, exact ? numbers : numbers + "; limits -128..127 and 2147483647", 0};
}

// For x in [0, largest_x] and y in `codes`: x0 + y1 - least fits u8, x1 + y0 - least - 128 fits s8.
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

// Deferred sums under a filter: as deep as the tightest position allows.
Proof DeferredUnderFilter(const CodeRanges& r, const WinogradFilter& filter, const FilterRanges& f) {
  Proof tightest;
  for (int p = 0; p < filter.positions(); ++p) {
    Proof proof = DeferredProof(InputWidth(r, filter, p), f.positions[p]);
    if (p == 0 || proof.depth < tightest.depth) tightest = std::move(proof);
  }
  return tightest;
}

// Inner products under a filter: exact if they are at every position; the numbers are those of the widest.
Proof InnerProductUnderFilter(const CodeRanges& r, const WinogradFilter& filter, const FilterRanges& f) {
  Proof worst = {true, "", 0};
  int widest = -1;
  for (int p = 0; p < filter.positions(); ++p) {
    const Range& codes = f.positions[p];
    const int input = InputWidth(r, filter, p), wide = input + codes.largest - codes.least;
    worst.exact = worst.exact && InnerProductFits(input, codes);
    if (wide <= widest) continue;
    widest = wide;
    worst.numbers = InnerProductNumbers(input, codes);
  }
  return worst;
}

}  // namespace

CodeRanges FindRanges(const kernels::ConvShape& s, const pack::WeightsU8& weights) {
  CodeRanges r;
  r.qmin = weights.qmin;
  r.qmax = weights.qmax;
  r.winograd = HasWinogradShape(s);
  const int64_t per_channel = s.taps() * s.group_inputs();
  const int reach = std::max(weights.zero_point - weights.qmin, weights.qmax - weights.zero_point);
  int64_t largest_sum = 0;
  for (int64_t o = 0; o < s.oc; ++o) {
    const int8_t* codes = weights.codes + o * per_channel;
    int64_t sum = 0;
    int least = 0, largest = 0;
    for (int64_t i = 0; i < per_channel; ++i) {
      least = std::min<int>(least, codes[i]);
      largest = std::max<int>(largest, codes[i]);
      sum += std::abs(codes[i]);
    }
    r.codes.Add(least);
    r.codes.Add(largest);
    largest_sum = std::max(largest_sum, sum);
  }
  for (int i = 0; i < kWinogradFilters; ++i) {
    const WinogradFilter& filter = *AllWinogradFilters()[static_cast<size_t>(i)];
    FilterRanges& f = r.filters[static_cast<size_t>(i)];
    f.largest_sum = filter.factor * largest_sum * reach;
    if (!r.winograd || LargestWidth(r, filter) > UINT8_MAX) continue;  // never exact, whatever the codes are
    LaneRanges lanes;
    for (int64_t o = 0; o < s.oc; ++o) AddKernels(filter, weights.codes + o * per_channel, s.c, &lanes);
    FindPositions(filter, lanes, &f);
  }
  return r;
}

bool HasWinogradShape(const kernels::ConvShape& s) {
  return s.kh == 3 && s.kw == 3 && s.stride_h == 1 && s.stride_w == 1 && s.dilation_h == 1 && s.dilation_w == 1 && s.groups == 1;
}

std::string InnerProductMisfit(int64_t k) { return k % 8 == 0 ? "" : "rows of " + std::to_string(k) + " codes are no multiple of 8"; }

Proof ProveProduct(const CodeRanges& r, Product product) {
  if (product == Product::kDot) return {true, "all codes", 0};
  if (product == Product::kDeferred) return DeferredProof(r.qmax, r.codes);
  return {InnerProductFits(r.qmax, r.codes), InnerProductNumbers(r.qmax, r.codes), 0};
}

Proof ProveFilter(const CodeRanges& r, const WinogradFilter& filter, Product product) {
  const auto all = AllWinogradFilters();
  const FilterRanges& f = r.filters[static_cast<size_t>(std::find(all.begin(), all.end(), &filter) - all.begin())];
  Proof transform = ProveTransform(r, filter, f);
  if (!transform.exact || product == Product::kDot) return transform;
  return product == Product::kDeferred ? DeferredUnderFilter(r, filter, f) : InnerProductUnderFilter(r, filter, f);
}

}  // namespace pqi::conv
