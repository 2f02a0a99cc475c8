// A layer of codes within ranges, run by an algorithm of the caller's choice in guarded memory, against the plain reference.
#pragma once

#include <algorithm>
#include <vector>

#include "conv/packed_conv.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/guarded.h"
#include "tests/kernels/reference_conv.h"

namespace pqi::test {

// Ranges that an algorithm admits: input codes are `width` wide, weight codes at most `code`.
struct Ranges {
  int width, code;
};

inline bool IsWinograd(const conv::Algorithm& a) { return a.filter != nullptr; }

enum class Fill { kRandom, kLargest, kLeast, kAlternating };

class CodedLayerTest : public KernelTest {
 protected:
  template <typename T>
  std::vector<T> Filled(int64_t n, int lo, int hi, Fill fill) {
    std::vector<T> v = random.Ints<T>(n, lo, hi);
    if (fill == Fill::kRandom) return v;
    for (size_t i = 0; i < v.size(); ++i) {
      const bool large = fill == Fill::kLargest || (fill == Fill::kAlternating && random.Coin());
      v[i] = static_cast<T>(large ? hi : lo);
    }
    return v;
  }

  void Check(const kernels::ConvShape& s, const conv::Algorithm& algorithm, const Ranges& ranges, Fill x_fill = Fill::kRandom,
             Fill w_fill = Fill::kRandom) {
    const int least = random.Coin() ? -ranges.code : 1 - ranges.code;
    CheckCodes(s, s, algorithm, ranges, Filled<int8_t>(s.oc * s.taps() * s.group_inputs(), least, ranges.code, w_fill), x_fill);
  }

  // The layer is packed for images like those of `expected`, and sees those of `s`.
  void CheckCodes(const kernels::ConvShape& expected, const kernels::ConvShape& s, const conv::Algorithm& algorithm, const Ranges& ranges,
                  const std::vector<int8_t>& codes, Fill x_fill = Fill::kRandom) {
    const auto place = random.Coin() ? GuardedBytes::kAtEnd : GuardedBytes::kAtBegin;
    pack::WeightsU8 weights;
    // The least code counts for Winograd alone: for the other algorithms only the largest one does.
    weights.qmin = static_cast<int32_t>(IsWinograd(algorithm) ? random.Int(0, 255 - ranges.width) : 0);
    weights.qmax = weights.qmin + ranges.width;
    weights.zero_point = static_cast<int32_t>(random.Int(weights.qmin, weights.qmax));
    const Guarded<uint8_t> x(Filled<uint8_t>(s.n * s.h * s.w * s.c, weights.qmin, weights.qmax, x_fill), place);
    const std::vector<float> scale = random.Floats(s.oc, 1e-4f, 1e-2f), bias = random.Floats(s.oc, -3, 3);
    const std::vector<int32_t> base = random.Ints<int32_t>(s.oc, -20, 20);
    const size_t count = static_cast<size_t>(s.rows() * s.oc);
    const Guarded<uint8_t> residual_u8(random.Ints<uint8_t>(static_cast<int64_t>(count), 0, 255), place);
    const Guarded<float> residual_f32(random.Floats(static_cast<int64_t>(count), -3, 3), place);
    weights.codes = codes.data();
    weights.step = random.Coin() ? 2 : 1;
    weights.scale = scale.data();
    weights.bias = random.Coin() ? bias.data() : nullptr;
    weights.base = !IsWinograd(algorithm) && algorithm.method == nullptr && random.Coin() ? base.data() : nullptr;
    conv::ConvRun<uint8_t> run;
    run.shape = s;
    run.x = x.data();
    run.residual.zero_point = 9;
    run.residual.scale = 0.02f;
    if (random.Coin()) run.residual.u8 = residual_u8.data();
    if (run.residual.u8 == nullptr && random.Coin()) run.residual.f32 = residual_f32.data();
    run.output = random.Pick(Outputs(0.05f));
    const conv::PackedConvU8 packed(*set, expected, weights, algorithm);
    run.y_stride = static_cast<size_t>(s.oc + (random.Coin() ? random.Int(1, 70) : 0));
    const auto reference = ReferenceConv(s, x.data(), weights, run.residual, run.output);
    const std::vector<uint8_t> want = ReferenceOutput(reference, run.y_stride, place);
    const Guarded<uint8_t> got(want.size(), place);
    run.y = got.data();
    const int parts = static_cast<int>(random.Int(1, 4));
    for (int i = 0; i < parts; ++i) {
      const Guarded<uint8_t> scratch(packed.ScratchBytes(s));
      packed.Run(run, conv::Split(packed.OutputWork(s), parts, i), scratch.data());
    }
    ASSERT_EQ(FirstDifference(got.data(), want.data(), want.size()), -1)
        << (IsWinograd(algorithm) ? algorithm.filter->name : packed.layout().method->name) << " product "
        << static_cast<int>(algorithm.product) << " depth " << algorithm.depth << " codes " << ranges.code << " width " << ranges.width
        << " from " << weights.qmin << ", n h w c oc k " << s.n << " " << s.h << " " << s.w << " " << s.c << " " << s.oc << " " << s.kh
        << " groups " << s.groups;
  }

  Random random{7};
};

}  // namespace pqi::test
