// Elementwise kernels equal the plain reference for every length, alignment and special value.
#include "kernels/reference/elementwise.h"

#include <algorithm>
#include <memory>

#include "kernels/reference/functions.h"
#include "kernels/reference/linear_dynamic.h"
#include "kernels/reference/quantize.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/guarded.h"

namespace pqi::test {
namespace {

using kernels::Affine;
using kernels::Output;

// All exponents with both signs and a few mantissas, ties and their neighbours, NaNs, infinities, zeros and denormals.
std::vector<float> InterestingFloats() {
  std::vector<float> v = {kNan, -kNan, kInf, -kInf, 0.0f, -0.0f, std::numeric_limits<float>::max(), std::numeric_limits<float>::lowest()};
  for (uint32_t exponent = 0; exponent < 255; ++exponent) {
    for (uint32_t mantissa : {0u, 1u, 0x400000u, 0x7FFFFFu}) {
      for (uint32_t sign : {0u, 1u}) {
        const uint32_t bits = (sign << 31) | (exponent << 23) | mantissa;
        float f;
        std::memcpy(&f, &bits, 4);
        v.push_back(f);
      }
    }
  }
  for (int i = -600; i <= 600; ++i) {  // every other half is a tie at scale 1
    const float half = static_cast<float>(i) * 0.5f;
    v.push_back(half);
    v.push_back(std::nextafter(half, kInf));
    v.push_back(std::nextafter(half, -kInf));
  }
  return v;
}

class ElementwiseTest : public KernelTest {
 protected:
  // Calls fn(length, placement) for all lengths up to a few vectors of every ISA, and for a long one.
  template <typename Fn>
  void ForEachLength(Fn&& fn) {
    for (size_t n = 0; n <= 130; ++n) fn(n, n % 2 == 0 ? GuardedBytes::kAtEnd : GuardedBytes::kAtBegin);
    fn(1021, GuardedBytes::kAtEnd);
  }
  template <typename T>
  void ExpectSame(const Guarded<T>& got, const Guarded<T>& want, const char* what) {
    EXPECT_EQ(FirstDifference(got.data(), want.data(), want.size()), -1) << what << " of " << want.size() << " elements";
  }
  Random random{1};
};

TEST_P(ElementwiseTest, RangesAreTheReferencesAtEveryLength) {
  std::vector<float> values = InterestingFloats();
  std::shuffle(values.begin(), values.end(), std::mt19937(7));
  ForEachLength([&](size_t n, GuardedBytes::Placement placement) {
    for (size_t first = 0; first + n < values.size(); first += values.size() / 9) {
      const Guarded<float> x(
          std::vector<float>(values.begin() + static_cast<ptrdiff_t>(first), values.begin() + static_cast<ptrdiff_t>(first + n)),
          placement);
      float got[2], want[2];
      set->range(x.data(), n, &got[0], &got[1]);
      kernels::reference::Range(x.data(), n, &want[0], &want[1]);
      EXPECT_EQ(std::memcmp(got, want, sizeof got), 0) << n << " from " << first << ": " << got[0] << " " << got[1];
    }
  });
}

TEST_P(ElementwiseTest, QuantizesSpecialValuesAndTies) {
  const Guarded<float> x(InterestingFloats(), GuardedBytes::kAtEnd);
  for (float scale : {1.0f, 0.5f, 0.1f, 0.0123f, 3e-30f, 1e30f}) {
    for (const Output& o : Outputs(scale)) {
      if (o.f32) continue;
      const Guarded<uint8_t> got(x.size()), want(x.size());
      set->quantize(x.data(), got.data(), x.size(), o);
      kernels::reference::Quantize(x.data(), want.data(), x.size(), o);
      for (size_t i = 0; i < x.size(); ++i) ASSERT_EQ(got[i], want[i]) << x[i] << " at scale " << scale << ", z " << o.zero_point;
    }
  }
}

TEST_P(ElementwiseTest, QuantizeHandlesEveryLength) {
  const Output o = Codes(0.03f, 10, 0, 255);
  ForEachLength([&](size_t n, GuardedBytes::Placement place) {
    const Guarded<float> x(random.Floats(static_cast<int64_t>(n), -6, 6), place);
    const Guarded<uint8_t> got(n, place), want(n, place);
    set->quantize(x.data(), got.data(), n, o);
    kernels::reference::Quantize(x.data(), want.data(), n, o);
    ExpectSame(got, want, "quantize");
  });
}

TEST_P(ElementwiseTest, QuantizeToNhwcTransposes) {
  const Output o = Codes(0.03f, 128, 0, 255);
  for (size_t channels : {1, 3, 4, 17}) {
    for (size_t pixels : {1, 7, 16, 127, 128, 129, 300}) {
      const size_t stride = pixels + 3;
      const Guarded<float> x(random.Floats(static_cast<int64_t>((channels - 1) * stride + pixels), -6, 6), GuardedBytes::kAtEnd);
      const Guarded<uint8_t> got(channels * pixels), want(channels * pixels);
      set->quantize_to_nhwc(x.data(), stride, channels, pixels, got.data(), o);
      kernels::reference::QuantizeToNhwc(x.data(), stride, channels, pixels, want.data(), o);
      ExpectSame(got, want, "quantize_to_nhwc");
    }
  }
}

TEST_P(ElementwiseTest, DequantizesEveryCode) {
  std::vector<uint8_t> codes(256);
  for (size_t i = 0; i < 256; ++i) codes[i] = static_cast<uint8_t>(i);
  for (const Affine& p : {Affine{0, 1.0f}, Affine{128, 0.0123f}, Affine{255, 1e-30f}, Affine{7, 1e30f}}) {
    const Guarded<float> got(256), want(256);
    set->dequantize(codes.data(), got.data(), 256, p);
    kernels::reference::Dequantize(codes.data(), want.data(), 256, p);
    ExpectSame(got, want, "dequantize");
  }
}

TEST_P(ElementwiseTest, DequantizeHandlesEveryLength) {
  ForEachLength([&](size_t n, GuardedBytes::Placement place) {
    const Guarded<uint8_t> x(random.Ints<uint8_t>(static_cast<int64_t>(n), 0, 255), place);
    const Guarded<float> got(n, place), want(n, place);
    set->dequantize(x.data(), got.data(), n, {5, 0.02f});
    kernels::reference::Dequantize(x.data(), want.data(), n, {5, 0.02f});
    ExpectSame(got, want, "dequantize");
  });
}

TEST_P(ElementwiseTest, AddsCodes) {
  const Affine pa = {3, 0.021f}, pb = {130, 0.017f};
  ForEachLength([&](size_t n, GuardedBytes::Placement place) {
    const Guarded<uint8_t> a(random.Ints<uint8_t>(static_cast<int64_t>(n), 0, 255), place);
    const Guarded<uint8_t> b(random.Ints<uint8_t>(static_cast<int64_t>(n), 0, 255), place);
    for (const Output& o : Outputs(0.025f)) {
      const Guarded<uint8_t> got(n * (o.f32 ? 4 : 1), place), want(got.size(), place);
      set->add_u8(a.data(), pa, b.data(), pb, n, o, got.data());
      kernels::reference::Add({a.data(), nullptr, pa}, {b.data(), nullptr, pb}, n, o, want.data());
      ExpectSame(got, want, "add_u8");
    }
  });
}

TEST_P(ElementwiseTest, AddsFloatsAndSpecialValues) {
  std::vector<float> values = InterestingFloats(), shifted = values;
  std::rotate(shifted.begin(), shifted.begin() + 3, shifted.end());
  const Guarded<float> a(values, GuardedBytes::kAtEnd), b(shifted, GuardedBytes::kAtEnd);
  const size_t n = values.size();
  for (const Output& o : Outputs(0.7f)) {
    if (o.f32) {
      const Guarded<float> got(n), want(n);
      set->add_f32(a.data(), b.data(), n, o, got.data());
      kernels::reference::Add({nullptr, a.data(), {}}, {nullptr, b.data(), {}}, n, o, want.data());
      ExpectSame(got, want, "add_f32");
    } else {
      const Guarded<uint8_t> got(n), want(n);
      set->add_f32(a.data(), b.data(), n, o, got.data());
      kernels::reference::Add({nullptr, a.data(), {}}, {nullptr, b.data(), {}}, n, o, want.data());
      ExpectSame(got, want, "add_f32 to codes");
    }
  }
}

// An operand of codes or of floats: rows of n elements, or one element for each row (`one`), or one row for all (`same_row`).
struct OperandCase {
  bool codes, one, same_row;
};

TEST_P(ElementwiseTest, ComputesBinaryFunctionsOfEveryKindOfOperand) {
  constexpr size_t kRows = 3;
  std::vector<OperandCase> kinds;
  for (int i = 0; i < 8; ++i) kinds.push_back({(i & 1) != 0, (i & 2) != 0, (i & 4) != 0});
  for (size_t n : {1, 5, 16, 23, 48, 67}) {
    const auto end = GuardedBytes::kAtEnd;
    const int64_t count = static_cast<int64_t>(kRows * n);
    const Guarded<float> floats[2] = {{random.Floats(count, -3, 3), end}, {random.Floats(count, -3, 3), end}};
    const Guarded<uint8_t> codes[2] = {{random.Ints<uint8_t>(count, 0, 255), end}, {random.Ints<uint8_t>(count, 0, 255), end}};
    const auto operand = [&](const OperandCase& c, size_t i) {
      kernels::BinaryOperand o;
      o.affine = {i == 0 ? 3 : 130, i == 0 ? 0.021f : 0.017f};
      o.step = c.one ? 0 : 1;
      o.row_step = c.same_row ? 0 : (c.one ? 1 : n);
      const size_t used = (c.same_row ? 1 : kRows) * (c.one ? 1 : n), unused = kRows * n - used;  // its last byte lies before the guard
      if (c.codes) {
        o.u8 = codes[i].data() + unused;
      } else {
        o.f32 = floats[i].data() + unused;
      }
      return o;
    };
    for (const OperandCase& a : kinds) {
      for (const OperandCase& b : kinds) {
        for (int f = 0; f < kernels::kBinaryFunctions; ++f) {
          for (const Output& o : {Codes(0.02f, 7, 1, 255), Floats()}) {
            const Guarded<uint8_t> got(kRows * n * (o.f32 ? 4 : 1)), want(got.size());
            const auto function = static_cast<kernels::BinaryFunction>(f);
            set->binary(function, operand(a, 0), operand(b, 1), kRows, n, o, got.data());
            kernels::reference::Binary(function, operand(a, 0), operand(b, 1), kRows, n, o, want.data());
            ExpectSame(got, want, "binary");
          }
        }
      }
    }
  }
}

TEST_P(ElementwiseTest, ComputesBinaryFunctionsOfSpecialValues) {
  std::vector<float> values = InterestingFloats(), shifted = values;
  std::rotate(shifted.begin(), shifted.begin() + 5, shifted.end());
  const size_t n = values.size();
  kernels::BinaryOperand a, b;
  a.f32 = values.data();
  b.f32 = shifted.data();
  for (int f = 0; f < kernels::kBinaryFunctions; ++f) {
    const auto function = static_cast<kernels::BinaryFunction>(f);
    const Guarded<float> got(n), want(n);
    set->binary(function, a, b, 1, n, Floats(), got.data());
    kernels::reference::Binary(function, a, b, 1, n, Floats(), want.data());
    ExpectSame(got, want, "binary");
  }
}

TEST_P(ElementwiseTest, AppliesChannelParametersAndClamps) {
  const std::vector<float> special = InterestingFloats();
  for (size_t channels : {size_t{1}, size_t{3}, size_t{16}, size_t{17}, size_t{40}, special.size()}) {
    constexpr size_t kRows = 3;
    std::vector<float> values = random.Floats(static_cast<int64_t>(kRows * channels), -3, 3);
    if (channels == special.size()) std::copy(special.begin(), special.end(), values.begin());
    const int64_t count = static_cast<int64_t>(channels);
    const auto end = GuardedBytes::kAtEnd;
    const Guarded<float> x(values, end), p(random.Floats(count, -1, 1), end), r(random.Floats(count, -1, 1), end);
    const Guarded<float> got(kRows * channels), want(kRows * channels);
    set->prelu(x.data(), got.data(), kRows, channels, p.data());
    kernels::reference::PreluChannels(x.data(), want.data(), kRows, channels, p.data());
    ExpectSame(got, want, "prelu");
    set->affine(x.data(), got.data(), kRows, channels, p.data(), r.data());
    kernels::reference::AffineChannels(x.data(), want.data(), kRows, channels, p.data(), r.data());
    ExpectSame(got, want, "affine");
    set->clamp(x.data(), got.data(), kRows * channels, 0, 6);
    kernels::reference::Clamp(x.data(), want.data(), kRows * channels, 0, 6);
    ExpectSame(got, want, "clamp");
  }
}

TEST_P(ElementwiseTest, LooksUpTables) {
  const std::vector<uint8_t> table = random.Ints<uint8_t>(256, 0, 255);
  const Guarded<uint8_t> table_g(table, GuardedBytes::kAtEnd);
  ForEachLength([&](size_t n, GuardedBytes::Placement place) {
    const Guarded<uint8_t> x(random.Ints<uint8_t>(static_cast<int64_t>(n), 0, 255), place), got(n, place), want(n, place);
    set->table(x.data(), got.data(), n, table_g.data());
    kernels::reference::Table(x.data(), want.data(), n, table_g.data());
    ExpectSame(got, want, "table");
  });
}

TEST_P(ElementwiseTest, FindsMaximaOfRows) {
  ForEachLength([&](size_t n, GuardedBytes::Placement place) {
    for (size_t count : {1, 2, 3, 4, 7}) {
      const size_t rows = static_cast<size_t>(random.Int(1, 4)), step = static_cast<size_t>(random.Int(0, 2 * static_cast<int64_t>(n)));
      const size_t length = (rows - 1) * step + n;
      std::vector<std::unique_ptr<Guarded<uint8_t>>> operands;
      std::vector<const uint8_t*> pointers;
      for (size_t i = 0; i < count; ++i) {
        operands.push_back(std::make_unique<Guarded<uint8_t>>(random.Ints<uint8_t>(static_cast<int64_t>(length), 0, 255), place));
        pointers.push_back(operands.back()->data());
      }
      const Guarded<const uint8_t*> x(pointers, place);
      const Guarded<uint8_t> got(rows * n, place), want(rows * n, place);
      set->max_u8({x.data(), count, step, rows, n, got.data()});
      kernels::reference::MaxU8({x.data(), count, step, rows, n, want.data()});
      ExpectSame(got, want, "max_u8");
    }
  });
}

TEST_P(ElementwiseTest, AccumulatesSumsOverPositions) {
  ForEachLength([&](size_t n, GuardedBytes::Placement place) {
    const size_t count = 1 + n % 37, stride = n + n % 3, first = n % 16;
    const int64_t read = static_cast<int64_t>((count - 1) * stride + n);
    const Guarded<uint8_t> x(random.Ints<uint8_t>(read, 0, 255), place);
    const std::vector<int32_t> sums = random.Ints<int32_t>(static_cast<int64_t>(n), -100000, 100000);
    const Guarded<int32_t> got_sum(sums, place), want_sum(sums, place);
    set->sum_u8(x.data(), stride, count, got_sum.data(), n);
    kernels::reference::SumU8(x.data(), stride, count, want_sum.data(), n);
    ExpectSame(got_sum, want_sum, "sum_u8");

    const Guarded<float> z(random.Floats(read, -4, 4), place);
    const std::vector<float> lanes = random.Floats(static_cast<int64_t>(16 * n), -4, 4);
    const Guarded<float> got_lanes(lanes, place), want_lanes(lanes, place);
    set->sum_lanes(z.data(), stride, count, first, got_lanes.data(), n);
    kernels::reference::SumLanes(z.data(), stride, count, first, want_lanes.data(), n);
    ExpectSame(got_lanes, want_lanes, "sum_lanes");
  });
}

// Calls check(function, x, got, want) with what each function makes of the values, by the set and by the reference.
template <typename Check>
void ForEachFunction(const kernels::KernelSet& set, const std::vector<float>& values, Check&& check) {
  const Guarded<float> x(values, GuardedBytes::kAtEnd);
  for (int f = 0; f < kernels::kUnaryFunctions; ++f) {
    const kernels::Unary unary = {static_cast<kernels::UnaryFunction>(f), 0.3f};
    const Guarded<float> got(x.size()), want(x.size());
    set.unary(x.data(), x.size(), unary, Floats(), got.data());
    kernels::reference::ApplyUnary(x.data(), x.size(), unary, Floats(), want.data());
    check(f, x, got, want);
  }
}

TEST_P(ElementwiseTest, EvaluatesFunctionsOfSpecialValuesAndOfTheirWholeRange) {
  std::vector<float> values = InterestingFloats();
  for (float limit : {0.4f, 1.2f, 5.0f, 20.0f, 110.0f}) {
    const std::vector<float> more = random.Floats(4000, -limit, limit);
    values.insert(values.end(), more.begin(), more.end());
  }
  ForEachFunction(*set, values, [](int f, const Guarded<float>& x, const Guarded<float>& got, const Guarded<float>& want) {
    const int64_t i = FirstDifference(got.data(), want.data(), want.size());
    EXPECT_EQ(i, -1) << "function " << f << " of " << x[static_cast<size_t>(i)];
  });
}

// Comparing floats would take any NaN for any other. Which one an addition of two gives depends on the order that a compiler chose.
TEST_P(ElementwiseTest, FunctionsGiveTheSameBitsForEveryKindOfNan) {
  std::vector<float> values;
  for (uint32_t bits : {0x7FC00000u, 0xFFC00000u, 0x7FC12345u, 0xFFC54321u, 0x7F800001u, 0xFF812345u}) {
    values.resize(values.size() + 17);
    std::memcpy(&values.back(), &bits, sizeof bits);
  }
  values.resize(values.size() + 16, -1.0f);  // of which log and sqrt make a NaN
  ForEachFunction(*set, values, [](int f, const Guarded<float>& x, const Guarded<float>& got, const Guarded<float>& want) {
    for (size_t i = 0; i < x.size(); ++i) {
      uint32_t bits[3];
      std::memcpy(&bits[0], &x[i], 4);
      std::memcpy(&bits[1], &got[i], 4);
      std::memcpy(&bits[2], &want[i], 4);
      EXPECT_EQ(bits[1], bits[2]) << std::hex << "function " << f << " of " << bits[0];
      if (bits[1] != bits[2]) break;
    }
  });
}

TEST_P(ElementwiseTest, FunctionsHandleEveryLength) {
  const kernels::Unary silu = {kernels::UnaryFunction::kSilu, 0};
  ForEachLength([&](size_t n, GuardedBytes::Placement place) {
    const Guarded<float> x(random.Floats(static_cast<int64_t>(n), -6, 6), place);
    for (const Output& o : Outputs(0.03f)) {
      const Guarded<uint8_t> got(n * (o.f32 ? 4 : 1), place), want(got.size(), place);
      set->unary(x.data(), n, silu, o, got.data());
      kernels::reference::ApplyUnary(x.data(), n, silu, o, want.data());
      ExpectSame(got, want, "silu");
    }
  });
}

PQI_INSTANTIATE(ElementwiseTest);

}  // namespace
}  // namespace pqi::test
