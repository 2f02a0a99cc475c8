// Linear layers over packed codes of 2 and 4 bits equal the plain reference on every kernel set, for all tails, numbers of rows, groups and
// extremes, and touch no byte beyond their operands.
#include <cmath>

#include "kernels/reference/linear_dynamic.h"
#include "linear/dynamic.h"
#include "pack/narrow_panels.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/guarded.h"

namespace pqi::test {
namespace {

using kernels::Affine;
using kernels::RowQuantizer;
using kernels::reference::DynamicLinear;

struct Layer {
  int64_t group, groups, outputs;
  int lo, hi;  // the least and the largest code
  std::vector<int8_t> codes;
  std::vector<float> scale, bias;

  int64_t inputs() const { return group * groups; }
  DynamicLinear linear() const {
    return {inputs(), outputs, groups, codes.data(), 1, scale.data(), nullptr, bias.empty() ? nullptr : bias.data()};
  }
};

class NarrowTest : public KernelTest {
 protected:
  Layer RandomLayer(int64_t group, int64_t groups, int64_t outputs, int lo, int hi) {
    Layer l = {group, groups, outputs, lo, hi, {}, {}, {}};
    l.codes = random.Ints<int8_t>(l.inputs() * outputs, lo, hi);
    l.codes[0] = static_cast<int8_t>(lo);
    l.scale = random.Floats(outputs * groups, -0.1f, 0.1f);
    for (float& s : l.scale) s = std::fabs(s) < 1e-6f ? 1e-6f : s;
    if (random.Coin()) l.bias = random.Floats(outputs, -2, 2);
    return l;
  }

  // Runs all rows in two parts of the panels, from and into guarded memory.
  void ExpectReferencesBits(const Layer& l, int64_t rows, const RowQuantizer& quantizer, const kernels::Output& o,
                            const std::vector<float>& x) {
    const DynamicLinear layer = l.linear();
    const size_t bytes = static_cast<size_t>(rows * l.outputs) * (o.f32 ? sizeof(float) : 1);
    const Guarded<float> input(x, GuardedBytes::kAtEnd);
    const Guarded<uint8_t> got(bytes), want(bytes);
    std::vector<uint8_t> q(static_cast<size_t>(l.inputs()));
    for (int64_t row = 0; row < rows; ++row) {
      float lo, hi;
      kernels::reference::Range(x.data() + row * l.inputs(), q.size(), &lo, &hi);
      const Affine p = kernels::reference::RowParameters(quantizer, lo, hi);
      const kernels::Output codes = kernels::reference::RowCodes(quantizer, p);
      for (size_t i = 0; i < q.size(); ++i) {
        kernels::reference::Store(x[static_cast<size_t>(row) * q.size() + i], codes, q.data(), i);
      }
      kernels::reference::LinearDynamicRow(layer, q.data(), p, o, want.data(), static_cast<size_t>(row * l.outputs));
    }
    const linear::PackedLinearDynamic packed(*set, layer, quantizer);
    // Rows are quantized into scratch memory: its end is guarded too.
    const size_t scratch_bytes = (packed.ScratchBytes() + kAlignment - 1) / kAlignment * kAlignment;
    const Guarded<uint8_t> scratch(scratch_bytes);
    linear::DynamicRun run;
    run.x = input.data();
    run.output = o;
    run.y = got.data();
    const int64_t half = packed.panels() / 2;
    packed.Run(run, {0, rows, 0, half}, scratch.data());
    packed.Run(run, {0, rows, half, packed.panels()}, scratch.data());
    if (o.f32) {
      const float *a = reinterpret_cast<const float*>(got.data()), *b = reinterpret_cast<const float*>(want.data());
      const int64_t at = FirstDifference(a, b, bytes / sizeof(float));
      ASSERT_EQ(at, -1) << a[at] << " instead of " << b[at];
    } else {
      ASSERT_EQ(FirstDifference(got.data(), want.data(), bytes), -1);
    }
  }

  std::string Describe(const Layer& l, int64_t rows) {
    return std::to_string(rows) + " rows, " + std::to_string(l.groups) + " groups of " + std::to_string(l.group) + " to " +
           std::to_string(l.outputs) + ", codes " + std::to_string(l.lo) + ".." + std::to_string(l.hi);
  }

  Random random{1};
  const RowQuantizer asymmetric{false, 0, 255, 1e-6f}, symmetric{true, 1, 255, 1e-6f}, narrow{false, 0, 15, 1e-6f};
};

TEST_P(NarrowTest, GivesTheReferencesBitsForAllTailsAndNumbersOfRows) {
  const std::vector<int64_t> groups{16, 17, 24, 31, 32, 37, 64, 96, 100, 128};
  for (int i = 0; i < 120; ++i) {
    const int64_t group = random.Pick(groups), count = random.Pick(std::vector<int64_t>{1, 1, 2, 3, 5, 9, 17});
    const int64_t rows = i % 3 == 0 ? random.Int(1, 9) : random.Int(1, 50);
    const std::vector<std::pair<int, int>> ranges{{-8, 7}, {-4, 3}, {-2, 1}, {-1, 1}, {0, 1}};
    const auto range = random.Pick(ranges);
    const Layer l = RandomLayer(group, count, random.Int(1, 150), range.first, range.second);
    SCOPED_TRACE(Describe(l, rows));
    const std::vector<float> x = random.Floats(rows * l.inputs(), -4, 5);
    const RowQuantizer& quantizer = i % 4 == 0 ? symmetric : i % 4 == 1 ? narrow : asymmetric;
    ASSERT_NO_FATAL_FAILURE(ExpectReferencesBits(l, rows, quantizer, random.Pick(Outputs(0.3f)), x));
  }
}

TEST_P(NarrowTest, ExtremesOfCodesRowsAndZeroPointsAreExact) {
  for (const auto& range : {std::pair<int, int>{-8, 7}, {-2, 1}}) {
    for (const int64_t group : {32, 64, 128, 8192, 65793}) {
      const int64_t count = group > 128 ? (group == 8192 ? 2 : 1) : 3;
      for (const int64_t rows : {1, 40}) {
        Layer l = RandomLayer(group, count, 40, range.first, range.second);
        for (size_t i = 0; i < l.codes.size(); ++i) {
          const size_t channel = i / static_cast<size_t>(l.inputs());
          l.codes[i] = static_cast<int8_t>(channel % 3 == 0   ? range.first
                                           : channel % 3 == 1 ? range.second
                                           : i % 2            ? range.first
                                                              : range.second);
        }
        std::vector<float> x(static_cast<size_t>(rows * l.inputs()));
        for (int64_t row = 0; row < rows; ++row) {  // rows with zero points 0, 255 and about 128
          for (int64_t i = 0; i < l.inputs(); ++i) {
            const float v = row % 4 == 0 ? 3.0f : row % 4 == 1 ? -3.0f : i % 2 ? 3.0f : -3.0f;
            x[static_cast<size_t>(row * l.inputs() + i)] = row % 4 == 3 && i % 3 ? 0.0f : v;
          }
        }
        SCOPED_TRACE(Describe(l, rows));
        ASSERT_NO_FATAL_FAILURE(ExpectReferencesBits(l, rows, asymmetric, Floats(), x));
        ASSERT_NO_FATAL_FAILURE(ExpectReferencesBits(l, rows, symmetric, Floats(), x));
      }
    }
  }
}

TEST_P(NarrowTest, SumsOfGroupsKeepTheirOrderAndTheSignOfZero) {
  Layer l = RandomLayer(32, 8, 33, -8, 7);
  for (size_t i = 0; i < l.scale.size(); ++i) l.scale[i] = std::ldexp(i % 2 ? 1.0f : -1.0f, static_cast<int>(i * 7 % 60) - 30);
  std::fill(l.codes.begin(), l.codes.begin() + l.inputs(), int8_t{0});  // a channel of zeros with negative scales
  l.codes.back() = -8;
  for (const int64_t rows : {1, 7, 33}) {
    const std::vector<float> x = random.Floats(rows * l.inputs(), -1e3f, 1e3f);
    ASSERT_NO_FATAL_FAILURE(ExpectReferencesBits(l, rows, asymmetric, Floats(), x));
  }
}

TEST_P(NarrowTest, ScalesAtTheEdgeOfTheFloatsAreExactOrRefused) {
  constexpr float kLeast = std::numeric_limits<float>::min(), kMost = std::numeric_limits<float>::max();
  for (const float scale : {kLeast, 8 * kLeast, 16 * kLeast, std::nextafter(16 * kLeast, 0.0f), 64 * kLeast, kMost}) {
    Layer l = RandomLayer(32, 3, 20, -8, 7);
    std::fill(l.scale.begin(), l.scale.end(), scale);
    l.scale[5] = -scale;
    const bool exact = scale >= std::ldexp(kLeast, set->narrow.shift[1]);
    EXPECT_EQ(pack::NarrowPanels::Bits(*set, l.linear()), exact && set->narrow.nr != 0 ? 4 : 0);
    for (const int64_t rows : {1, 20}) {
      ASSERT_NO_FATAL_FAILURE(ExpectReferencesBits(l, rows, asymmetric, Floats(), random.Floats(rows * l.inputs(), -4, 4)));
    }
  }
}

TEST_P(NarrowTest, TakesLayersInItsRangeOnly) {
  const auto bits = [&](int64_t group, int64_t groups, int lo, int hi) {
    Layer l = RandomLayer(group, groups, 3, lo, hi);
    l.codes.back() = static_cast<int8_t>(hi);
    return pack::NarrowPanels::Bits(*set, l.linear());
  };
  const int four = set->narrow.nr != 0 ? 4 : 0;
  EXPECT_EQ(bits(32, 2, -8, 7), four);
  EXPECT_EQ(bits(32, 2, -2, 2), four);
  EXPECT_EQ(bits(32, 2, -3, 1), four);
  EXPECT_EQ(bits(32, 2, -2, 1), four / 2);
  EXPECT_EQ(bits(32, 2, -9, 7), 0);
  EXPECT_EQ(bits(32, 2, -8, 8), 0);
  EXPECT_EQ(bits(15, 2, -8, 7), 0);
  EXPECT_EQ(bits(16, 2, -8, 7), four);
  EXPECT_EQ(bits(8192, 2, -8, 7), four);
  EXPECT_EQ(bits(8193, 2, -8, 7), 0);
  EXPECT_EQ(bits(65793, 1, -8, 7), four);
  EXPECT_EQ(bits(65794, 1, -8, 7), 0);
  Layer l = RandomLayer(32, 2, 3, -8, 7);
  const std::vector<int32_t> base(6, 1);
  DynamicLinear layer = l.linear();
  layer.base = base.data();
  EXPECT_EQ(pack::NarrowPanels::Bits(*set, layer), 0);
  layer.base = nullptr;
  layer.step = 2;
  EXPECT_EQ(pack::NarrowPanels::Bits(*set, layer), 0);
}

TEST_P(NarrowTest, CodesTakeNoMoreMemoryThanTheirBits) {
  if (set->narrow.nr == 0) GTEST_SKIP() << "no kernels for packed codes";
  const auto bytes = [&](int lo, int hi) {
    const Layer l = RandomLayer(32, 8, 128, lo, hi);
    return linear::PackedLinearDynamic(*set, l.linear(), asymmetric).bytes();
  };
  constexpr size_t kCodes = 32 * 8 * 128, kRest = 2048;  // a bound for scales of the groups, bias and what else there is
  EXPECT_LE(bytes(-8, 7), kCodes / 2 + 128 * 8 * sizeof(float) + kRest);
  EXPECT_LE(bytes(-1, 1), kCodes / 4 + 128 * 8 * sizeof(float) + kRest);
}

PQI_INSTANTIATE(NarrowTest);

}  // namespace
}  // namespace pqi::test
