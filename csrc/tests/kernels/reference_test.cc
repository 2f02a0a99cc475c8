// The plain reference itself equals numbers that were worked out by hand from docs/numerics.md.
#include "kernels/reference/conv.h"
#include "kernels/reference/elementwise.h"
#include "kernels/reference/pool.h"
#include "kernels/reference/quantize.h"
#include "tests/kernels/cases.h"

namespace pqi::test {
namespace {

namespace ref = kernels::reference;
using kernels::PoolShape;

// Holds C6.
TEST(ReferenceQuantize, RoundsHalfToEvenAfterClamping) {
  struct {
    float x;
    int z, qmin, qmax;
    int want;
  } const cases[] = {
      {0.5f, 0, 0, 255, 0},     {1.5f, 0, 0, 255, 2},     {2.5f, 0, 0, 255, 2},     {-0.5f, 10, 0, 255, 10},   {-1.5f, 10, 0, 255, 8},
      {254.5f, 0, 0, 255, 254}, {255.5f, 0, 0, 255, 255}, {1e30f, 3, 0, 255, 255},  {-1e30f, 3, 0, 255, 0},    {kInf, 8, 1, 15, 15},
      {-kInf, 8, 1, 15, 1},     {kNan, 8, 1, 15, 8},      {kNan, 255, 0, 255, 255}, {-0.0f, 128, 0, 255, 128}, {1e-45f, 0, 0, 255, 0},
  };
  for (const auto& c : cases) EXPECT_EQ(ref::QuantizeValue(c.x, Codes(1.0f, c.z, c.qmin, c.qmax)), c.want) << c.x << " z " << c.z;
}

TEST(ReferenceQuantize, MultipliesByTheRoundedReciprocal) {
  // 1/0.1f in double is 9.99999985098839; the nearest float32 is 10. 0.25f * 10 is a tie, 0.25f / 0.1f is not.
  EXPECT_EQ(ref::InverseScale(0.1f), 10.0f);
  EXPECT_EQ(ref::QuantizeValue(0.25f, Codes(0.1f, 0, 0, 255)), 2);
  EXPECT_EQ(ref::QuantizeValue(0.35f, Codes(0.1f, 0, 0, 255)), 4);
}

TEST(ReferenceActivation, KeepsNanAndNegativeZero) {
  EXPECT_TRUE(std::isnan(ref::Activate(kNan, 0, 6)));
  EXPECT_TRUE(SameBits(ref::Activate(-0.0f, 0, kInf), -0.0f));
  EXPECT_TRUE(SameBits(ref::Activate(-1.0f, 0, kInf), 0.0f));
  EXPECT_EQ(ref::Activate(7.0f, 0, 6), 6.0f);
  EXPECT_EQ(ref::Activate(kInf, -kInf, kInf), kInf);
}

TEST(ReferenceConv, PadsWithTheZeroPointAndAddsBaseTimesBox) {
  // A 1x3 image of one channel, q = 5, 9, 2 with z = 4, under a 1x3 kernel with codes 1, -2, 3, step 2, base 10; padding 1 left and right.
  const uint8_t x[] = {5, 9, 2};
  const int8_t codes[] = {1, -2, 3};
  const int32_t base[] = {10};
  const float scale[] = {0.5f}, bias[] = {0.25f};
  float y[3];
  ref::ConvU8 conv;
  conv.shape.w = 3;
  conv.shape.kw = 3;
  conv.shape.pad_left = conv.shape.pad_right = 1;
  conv.x = x;
  conv.zero_point = 4;
  conv.codes = codes;
  conv.step = 2;
  conv.base = base;
  conv.scale = scale;
  conv.bias = bias;
  conv.output = Floats();
  conv.y = y;
  conv.y_stride = static_cast<size_t>(conv.shape.oc);
  ref::Conv2dU8(conv, 0, 3);
  // (q - z) = 1, 5, -2. Windows: (0,1,5), (1,5,-2), (5,-2,0). Sums of codes: 13, -15, 9; boxes: 6, 4, 3.
  EXPECT_EQ(y[0], (2 * 13 + 60) * 0.5f + 0.25f);
  EXPECT_EQ(y[1], (2 * -15 + 40) * 0.5f + 0.25f);
  EXPECT_EQ(y[2], (2 * 9 + 30) * 0.5f + 0.25f);
}

TEST(ReferenceConv, GroupsReadTheirOwnChannels) {
  const uint8_t x[] = {1, 2, 3, 4};
  const int8_t codes[] = {1, 1, 1, -1, 2, 0, 0, 3};  // [oc 4][k 2]
  const float scale[] = {1, 1, 1, 1};
  float y[4];
  ref::ConvU8 conv;
  conv.shape.c = 4;
  conv.shape.oc = 4;
  conv.shape.groups = 2;
  conv.x = x;
  conv.codes = codes;
  conv.scale = scale;
  conv.output = Floats();
  conv.y = y;
  conv.y_stride = static_cast<size_t>(conv.shape.oc);
  ref::Conv2dU8(conv, 0, 1);
  const float want[] = {3, -1, 6, 12};
  EXPECT_EQ(FirstDifference(y, want, 4), -1);
}

TEST(ReferenceConv, FloatIsOneFmaChain) {
  // A rounding of the product before the addition would lose the term 2^-24.
  const float tiny = std::ldexp(1.0f, -12);
  const float x[] = {1.0f, 1.0f + tiny}, w[] = {-1.0f, 1.0f + tiny};
  float y[1];
  ref::ConvF32 conv;
  conv.shape.c = 2;
  conv.x = x;
  conv.weights = w;
  conv.act_lo = -kInf;
  conv.act_hi = kInf;
  conv.y = y;
  conv.y_stride = static_cast<size_t>(conv.shape.oc);
  ref::Conv2dF32(conv, 0, 1);
  EXPECT_EQ(y[0], std::fma(1.0f + tiny, 1.0f + tiny, -1.0f));
  EXPECT_NE(y[0], static_cast<float>((1.0f + tiny) * (1.0f + tiny)) - 1.0f);
}

TEST(ReferenceConv, OutputSizeFollowsStrideDilationAndPadding) {
  kernels::ConvShape s;
  s.n = 2;
  s.h = 10;
  s.w = 7;
  s.kh = 3;
  s.kw = 2;
  s.stride_h = 2;
  s.dilation_h = 2;
  s.pad_top = 1;
  s.pad_right = 3;
  EXPECT_EQ(s.out_h(), 4);  // (10 + 1 - 2*2 - 1) / 2 + 1
  EXPECT_EQ(s.out_w(), 9);  // (7 + 3 - 1 - 1) / 1 + 1
  EXPECT_EQ(s.rows(), 72);
}

// Holds E13.
TEST(ReferenceMaxPool, IgnoresPaddingAndPassesNan) {
  PoolShape s;
  s.w = 3;
  s.kw = 2;
  s.pad_left = 1;
  s.out_w = 4;
  const uint8_t q[] = {0, 7, 3};
  uint8_t max_u8[4];
  ref::MaxPoolU8(s, q, max_u8, 0, 4);
  const uint8_t want_u8[] = {0, 7, 7, 3};
  EXPECT_EQ(FirstDifference(max_u8, want_u8, 4), -1);
  const float x[] = {-5.0f, kNan, -1.0f};
  float max_f32[4];
  ref::MaxPoolF32(s, x, max_f32, 0, 4);
  EXPECT_EQ(max_f32[0], -5.0f);
  EXPECT_TRUE(std::isnan(max_f32[1]));
  EXPECT_TRUE(std::isnan(max_f32[2]));
  EXPECT_EQ(max_f32[3], -1.0f);
}

// Holds E12.
TEST(ReferenceAvgPool, CountsByCountIncludePad) {
  PoolShape s;
  s.w = 3;
  s.kw = 2;
  s.pad_left = s.pad_right = 1;
  s.out_w = 4;
  const uint8_t q[] = {10, 20, 40};
  const float x[] = {6, 16, 36};
  for (bool include : {false, true}) {
    s.count_include_pad = include;
    float from_codes[4], from_floats[4];
    ref::AvgPoolU8(s, q, {4, 1.0f}, Floats(), from_codes, 0, 4);
    ref::AvgPoolF32(s, x, Floats(), from_floats, 0, 4);
    const float want[] = {include ? 3.0f : 6.0f, 11, 26, include ? 18.0f : 36.0f};
    EXPECT_EQ(FirstDifference(from_codes, want, 4), -1) << include;
    EXPECT_EQ(FirstDifference(from_floats, want, 4), -1) << include;
  }
}

TEST(ReferenceAvgPool, CeilModeWindowsStopAtThePaddedImage) {
  PoolShape s;
  s.w = 4;
  s.kw = 3;
  s.stride_w = 3;
  s.out_w = 2;  // the second window covers columns 3, 4, 5 of which only 3 exists
  s.count_include_pad = true;
  const float x[] = {1, 2, 3, 10};
  float y[2];
  ref::AvgPoolF32(s, x, Floats(), y, 0, 2);
  EXPECT_EQ(y[0], 2.0f);
  EXPECT_EQ(y[1], 10.0f);
}

TEST(ReferenceAvgPool, AdaptiveWindowsOverlapWhereTheLengthDoesNotDivide) {
  PoolShape s;
  s.w = 5;
  s.out_w = 3;  // [0,2) [1,4) [3,5)
  const uint8_t q[] = {0, 2, 4, 6, 8};
  float y[3];
  ref::AdaptiveAvgPoolU8(s, q, {0, 1.0f}, Floats(), y, 0, 3);
  EXPECT_EQ(y[0], 1.0f);
  EXPECT_EQ(y[1], 12.0f * (1.0f / 3.0f));
  EXPECT_EQ(y[2], 7.0f);
}

TEST(ReferenceAvgPool, FloatSumsUseSixteenLanes) {
  // Lane 0 holds elements 0 and 16: 1e8 - 1e8 cancels before element 1 (= 1, lane 1) is added. A running sum would lose it.
  PoolShape s;
  s.w = 17;
  float x[17] = {};
  x[0] = 1e8f;
  x[1] = 1.0f;
  x[16] = -1e8f;
  float y[1];
  ref::AdaptiveAvgPoolF32(s, x, Floats(), y, 0, 1);
  EXPECT_EQ(y[0], 1.0f / 17.0f);
}

TEST(ReferenceElementwise, AddsMixedOperands) {
  const uint8_t q[] = {10, 12};
  const float x[] = {0.25f, -100.0f};
  float y[2];
  ref::Add({q, nullptr, {10, 0.5f}}, {nullptr, x, {}}, 2, Floats(0, kInf), y);
  EXPECT_EQ(y[0], 0.25f);
  EXPECT_EQ(y[1], 0.0f);
}

TEST(ReferenceElementwise, AffineRoundsOnce) {
  const float tiny = std::ldexp(1.0f, -12), x[] = {1 + tiny}, scale[] = {1 + tiny}, shift[] = {-1};
  float y[1];
  ref::AffineChannels(x, y, 1, 1, scale, shift);
  EXPECT_EQ(y[0], std::fma(x[0], scale[0], shift[0]));
}

}  // namespace
}  // namespace pqi::test
