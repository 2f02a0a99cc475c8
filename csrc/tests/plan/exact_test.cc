// Each bound of docs/numerics.md from both sides: on it an algorithm is proved, one step beyond it is refused.
#include "conv/exact.h"

#include <gtest/gtest.h>

#include "conv/packed_conv.h"
#include "kernels/reference/conv.h"
#include "tests/kernels/cases.h"
#include "tests/plan/layer.h"

namespace pqi::test {
namespace {

using conv::CodeRanges;
using conv::Product;
using conv::Proof;
using conv::WinogradFilter;

constexpr const WinogradFilter* kFilters[] = {&conv::kWinograd1d, &conv::kWinograd1d4, &conv::kWinograd2d, &conv::kWinograd4x4};

CodeRanges RangesOf(const CodeLayer& layer) { return conv::FindRanges(layer.shape, layer.weights); }

// Without a filter the products of the codes themselves.
Proof Prove(const CodeRanges& ranges, const WinogradFilter* filter, Product product) {
  return filter == nullptr ? conv::ProveProduct(ranges, product) : conv::ProveFilter(ranges, *filter, product);
}
bool Exact(const WinogradFilter* filter, const CodeLayer& layer, Product product = Product::kDot) {
  return Prove(RangesOf(layer), filter, product).exact;
}
uint32_t Depth(const WinogradFilter* filter, const CodeLayer& layer) { return Prove(RangesOf(layer), filter, Product::kDeferred).depth; }

void ExpectInputCodesAtMostApart(const WinogradFilter* filter, int width) {
  CodeLayer layer(4, 2, 3, 8, width, 1);
  EXPECT_TRUE(Exact(filter, layer));
  layer.weights.qmax = width + 1;
  EXPECT_FALSE(Exact(filter, layer));
  layer.weights.qmin = 1;
  layer.weights.zero_point = 1;
  EXPECT_TRUE(Exact(filter, layer)) << "the width counts, not the largest code";
}

TEST(WinogradRange, InputCodesAreAtMost63Apart) { ExpectInputCodesAtMostApart(&conv::kWinograd2d, 63); }

TEST(WinogradRange, CodesTo14AlwaysFit) {
  EXPECT_TRUE(Exact(&conv::kWinograd2d, CodeLayer(4, 2, 3, 8, 63, 14)));
  EXPECT_TRUE(Exact(&conv::kWinograd2d, CodeLayer(4, 2, 3, 8, 63, -14)));
}

TEST(WinogradRange, TransformedCodesCountNotTheCodesThemselves) {
  CodeLayer layer(1, 1, 3, 8, 15, 14);
  layer.tap(4) = 15;  // position 5 is the sum of all nine: 127
  EXPECT_TRUE(Exact(&conv::kWinograd2d, layer));
  layer.tap(4) = 16;  // 128
  EXPECT_FALSE(Exact(&conv::kWinograd2d, layer));
  for (int8_t& code : layer.codes) code = -14;
  layer.tap(4) = -16;  // -128
  EXPECT_TRUE(Exact(&conv::kWinograd2d, layer));
  layer.tap(4) = -17;
  EXPECT_FALSE(Exact(&conv::kWinograd2d, layer));
  for (int8_t& code : layer.codes) code = 0;
  layer.tap(0) = 31;  // position 0 is four times the first tap: 124
  EXPECT_TRUE(Exact(&conv::kWinograd2d, layer));
  layer.tap(0) = 32;
  EXPECT_FALSE(Exact(&conv::kWinograd2d, layer));
}

TEST(WinogradRange, FourTimesTheAccumulatorFitsInt32) {
  // 4 * 14 * 9 * 63 = 31752 per channel; 2147483647 / 31752 = 67633.02
  EXPECT_TRUE(Exact(&conv::kWinograd2d, CodeLayer(67633, 1, 3, 1, 63, 14)));
  EXPECT_FALSE(Exact(&conv::kWinograd2d, CodeLayer(67634, 1, 3, 1, 63, 14)));
}

TEST(Winograd1dRange, InputCodesAreAtMost127Apart) { ExpectInputCodesAtMostApart(&conv::kWinograd1d, 127); }

TEST(Winograd1dRange, CodesTo42AlwaysFit) {
  EXPECT_TRUE(Exact(&conv::kWinograd1d, CodeLayer(4, 2, 3, 8, 127, 42)));
  EXPECT_TRUE(Exact(&conv::kWinograd1d, CodeLayer(4, 2, 3, 8, 127, -42)));
  EXPECT_FALSE(Exact(&conv::kWinograd1d, CodeLayer(4, 2, 3, 8, 127, 43))) << "43 + 43 + 43 = 129";
  EXPECT_FALSE(Exact(&conv::kWinograd1d, CodeLayer(4, 2, 3, 8, 127, -43)));
}

TEST(Winograd1dRange, TransformedCodesCountNotTheCodesThemselves) {
  CodeLayer layer(1, 1, 3, 8, 15, 43);
  for (int64_t row = 0; row < 3; ++row) {
    layer.tap(row * 3) = 41;
    layer.tap(row * 3 + 1) = 43;
    layer.tap(row * 3 + 2) = 43;  // 127
  }
  EXPECT_TRUE(Exact(&conv::kWinograd1d, layer));
  layer.tap(8) = 44;
  EXPECT_FALSE(Exact(&conv::kWinograd1d, layer));
  for (int8_t& code : layer.codes) code = 0;
  layer.tap(3) = 63;  // position 0 is twice the first tap of a row: 126
  EXPECT_TRUE(Exact(&conv::kWinograd1d, layer));
  layer.tap(3) = 64;
  EXPECT_FALSE(Exact(&conv::kWinograd1d, layer));
  layer.tap(3) = -64;
  EXPECT_TRUE(Exact(&conv::kWinograd1d, layer));
  layer.tap(3) = 0;
  layer.tap(1) = 127;
  EXPECT_TRUE(Exact(&conv::kWinograd1d, layer)) << "the middle one counts once";
}

TEST(Winograd1dRange, TwiceTheAccumulatorFitsInt32) {
  // 2 * 42 * 9 * 127 = 96012 per channel; 2147483647 / 96012 = 22366.82
  EXPECT_TRUE(Exact(&conv::kWinograd1d, CodeLayer(22366, 1, 3, 1, 127, 42)));
  EXPECT_FALSE(Exact(&conv::kWinograd1d, CodeLayer(22367, 1, 3, 1, 127, 42)));
}

TEST(Winograd1dRange, DepthOfDeferredSumsFollowsFromTransformedValues) {
  const auto depth = [](int qmax, int8_t code) { return Depth(&conv::kWinograd1d, CodeLayer(4, 2, 3, 8, qmax, code)); };
  EXPECT_EQ(depth(127, 21), 1u);  // 2 * 254 * 63 = 32004
  EXPECT_EQ(depth(127, 22), 0u);  // 2 * 254 * 66 = 33528
  EXPECT_EQ(depth(127, 7), 3u);
  EXPECT_EQ(depth(128, 1), 0u) << "not exact by any product";
}

TEST(Winograd1d4Range, InputCodesAreAtMost25Apart) { ExpectInputCodesAtMostApart(&conv::kWinograd1d4, 25); }

TEST(Winograd1d4Range, CodesTo18AlwaysFit) {
  EXPECT_TRUE(Exact(&conv::kWinograd1d4, CodeLayer(4, 2, 3, 8, 25, 18)));
  EXPECT_TRUE(Exact(&conv::kWinograd1d4, CodeLayer(4, 2, 3, 8, 25, -18)));
  EXPECT_FALSE(Exact(&conv::kWinograd1d4, CodeLayer(4, 2, 3, 8, 25, 19))) << "19 + 2 * 19 + 4 * 19 = 133";
  EXPECT_FALSE(Exact(&conv::kWinograd1d4, CodeLayer(4, 2, 3, 8, 25, -19)));
}

TEST(Winograd1d4Range, TransformedCodesCountNotTheCodesThemselves) {
  CodeLayer layer(1, 1, 3, 8, 15, 18);
  layer.tap(6) = 19;  // the last kernel row: 19 + 2 * 18 + 4 * 18 = 127
  EXPECT_TRUE(Exact(&conv::kWinograd1d4, layer));
  layer.tap(6) = 20;
  EXPECT_FALSE(Exact(&conv::kWinograd1d4, layer));
  for (int8_t& code : layer.codes) code = -18;
  layer.tap(6) = -20;  // -128
  EXPECT_TRUE(Exact(&conv::kWinograd1d4, layer));
  layer.tap(6) = -21;
  EXPECT_FALSE(Exact(&conv::kWinograd1d4, layer));
  for (int8_t& code : layer.codes) code = 0;
  layer.tap(4) = 63;  // the middle one counts twice
  EXPECT_TRUE(Exact(&conv::kWinograd1d4, layer));
  layer.tap(4) = 64;  // and once as -2 * 64
  EXPECT_FALSE(Exact(&conv::kWinograd1d4, layer));
  layer.tap(4) = 0;
  layer.tap(3) = 127;
  EXPECT_TRUE(Exact(&conv::kWinograd1d4, layer)) << "the first one counts once";
}

TEST(Winograd1d4Range, EightTimesTheAccumulatorFitsInt32) {
  // 8 * 18 * 9 * 25 = 32400 per channel; 2147483647 / 32400 = 66280.36
  EXPECT_TRUE(Exact(&conv::kWinograd1d4, CodeLayer(66280, 1, 3, 1, 25, 18)));
  EXPECT_FALSE(Exact(&conv::kWinograd1d4, CodeLayer(66281, 1, 3, 1, 25, 18)));
}

TEST(Winograd1d4Range, DepthOfDeferredSumsFollowsFromTransformedValues) {
  EXPECT_EQ(Depth(&conv::kWinograd1d4, CodeLayer(4, 2, 3, 8, 25, 15)), 1u);  // 2 * 150 * 105 = 31500
  EXPECT_EQ(Depth(&conv::kWinograd1d4, CodeLayer(4, 2, 3, 8, 25, 16)), 0u);  // 2 * 150 * 112 = 33600
  EXPECT_EQ(Depth(&conv::kWinograd1d4, CodeLayer(4, 2, 3, 8, 15, 7)), 3u);   // 2 * 90 * 49 = 8820
  EXPECT_EQ(Depth(&conv::kWinograd1d4, CodeLayer(4, 2, 3, 8, 26, 1)), 0u) << "not exact by any product";
}

TEST(Winograd4x4Range, InputCodesAreAtMost15Apart) { ExpectInputCodesAtMostApart(&conv::kWinograd4x4, 15); }

// The signs that make one complex position largest: twice the sum of all codes.
void FillWithSignsOfAComplexPosition(int8_t code, CodeLayer* layer) {
  for (int64_t t = 0; t < 9; ++t) layer->tap(t) = t % 3 == 0 ? code : static_cast<int8_t>(-code);
}

TEST(Winograd4x4Range, CodesTo7AlwaysFit) {
  CodeLayer layer(1, 1, 3, 8, 15, 0);
  for (int signs = 0; signs < 512; ++signs) {
    for (int t = 0; t < 9; ++t) layer.tap(t) = (signs >> t & 1) != 0 ? 7 : -7;
    EXPECT_TRUE(Exact(&conv::kWinograd4x4, layer)) << signs;
  }
  FillWithSignsOfAComplexPosition(8, &layer);
  EXPECT_FALSE(Exact(&conv::kWinograd4x4, layer)) << "2 * 9 * 8 = 144";
}

TEST(Winograd4x4Range, TransformedCodesCountNotTheCodesThemselves) {
  CodeLayer layer(1, 1, 3, 8, 15, 0);
  layer.tap(0) = 7;  // position 0 is 16 times the first tap: 112
  EXPECT_TRUE(Exact(&conv::kWinograd4x4, layer));
  layer.tap(0) = 8;  // 128
  EXPECT_FALSE(Exact(&conv::kWinograd4x4, layer));
  layer.tap(0) = -8;
  EXPECT_TRUE(Exact(&conv::kWinograd4x4, layer));
  layer.tap(0) = -9;
  EXPECT_FALSE(Exact(&conv::kWinograd4x4, layer));
  FillWithSignsOfAComplexPosition(7, &layer);
  layer.tap(4) = -8;  // 2 * 64
  EXPECT_FALSE(Exact(&conv::kWinograd4x4, layer));
  FillWithSignsOfAComplexPosition(-7, &layer);
  layer.tap(4) = 8;  // -128
  EXPECT_TRUE(Exact(&conv::kWinograd4x4, layer));
  layer.tap(4) = 9;
  EXPECT_FALSE(Exact(&conv::kWinograd4x4, layer));
}

TEST(Winograd4x4Range, SixteenTimesTheAccumulatorFitsInt32) {
  // 16 * 7 * 9 * 15 = 15120 per channel; 2147483647 / 15120 = 142029.34
  EXPECT_TRUE(Exact(&conv::kWinograd4x4, CodeLayer(142029, 1, 3, 1, 15, 7)));
  EXPECT_FALSE(Exact(&conv::kWinograd4x4, CodeLayer(142030, 1, 3, 1, 15, 7)));
}

TEST(Winograd4x4Range, DepthOfDeferredSumsFollowsFromTransformedValues) {
  CodeLayer layer(1, 1, 3, 8, 15, 7);
  EXPECT_EQ(Depth(&conv::kWinograd4x4, layer), 1u);  // 2 * 240 * 63 = 30240
  FillWithSignsOfAComplexPosition(4, &layer);
  EXPECT_EQ(Depth(&conv::kWinograd4x4, layer), 0u);  // 2 * 240 * 72 = 34560
  EXPECT_EQ(Depth(&conv::kWinograd4x4, CodeLayer(1, 1, 3, 8, 15, 1)), 7u);
}

TEST(WinogradRange, OtherShapesAreRefused) {
  for (auto change : {+[](kernels::ConvShape& s) { s.stride_h = 2; }, +[](kernels::ConvShape& s) { s.stride_w = 2; },
                      +[](kernels::ConvShape& s) { s.dilation_w = 2; }, +[](kernels::ConvShape& s) { s.groups = 2; }}) {
    CodeLayer layer(4, 2, 3, 8, 15, 7);
    change(layer.shape);
    for (const WinogradFilter* filter : kFilters) EXPECT_FALSE(Exact(filter, layer));
  }
  for (const WinogradFilter* filter : kFilters) EXPECT_FALSE(Exact(filter, CodeLayer(4, 2, 5, 8, 15, 7)));
}

TEST(InnerProductRange, LargestInputPlusTheRangeOfCodesIsAtMost255) {
  CodeLayer layer(8, 2, 1, 8, 241, 7);
  layer.tap(0) = -7;
  EXPECT_TRUE(Exact(nullptr, layer, Product::kInnerProduct));
  layer.weights.qmax = 242;
  EXPECT_FALSE(Exact(nullptr, layer, Product::kInnerProduct));
  layer.weights.qmax = 128;
  layer.tap(0) = -127;
  layer.tap(1) = 0;
  for (size_t i = 1; i < layer.codes.size(); ++i) layer.codes[i] = 0;
  EXPECT_TRUE(Exact(nullptr, layer, Product::kInnerProduct));
  layer.weights.qmax = 1;
  layer.codes[0] = -128;
  EXPECT_FALSE(Exact(nullptr, layer, Product::kInnerProduct)) << "a code of -128 is not allowed";
}

TEST(InnerProductRange, InsideWinogradTheTransformedValuesCount) {
  CodeLayer layer(8, 2, 3, 8, 48, 7);  // 4 * 48 + 63 = 255
  EXPECT_TRUE(Exact(&conv::kWinograd2d, layer, Product::kInnerProduct));
  layer.weights.qmax = 49;
  EXPECT_FALSE(Exact(&conv::kWinograd2d, layer, Product::kInnerProduct));
  EXPECT_TRUE(Exact(&conv::kWinograd2d, layer));
}

TEST(InnerProductRange, InsideRowFiltersTheTransformedValuesCount) {
  CodeLayer layer(8, 2, 3, 8, 106, 7);  // F(2,3), position 1: 2 * 106 + 21 = 233; position 0: 2 * 106 + 14
  EXPECT_TRUE(Exact(&conv::kWinograd1d, layer, Product::kInnerProduct));
  layer.weights.qmax = 117;  // 2 * 117 + 21 = 255
  EXPECT_TRUE(Exact(&conv::kWinograd1d, layer, Product::kInnerProduct));
  layer.weights.qmax = 118;
  EXPECT_FALSE(Exact(&conv::kWinograd1d, layer, Product::kInnerProduct));
  EXPECT_TRUE(Exact(&conv::kWinograd1d, layer));
  layer.weights.qmax = 23;  // F(4,3), position 1: 10 * 23 + 21 = 251
  EXPECT_TRUE(Exact(&conv::kWinograd1d4, layer, Product::kInnerProduct));
  layer.weights.qmax = 24;  // 261
  EXPECT_FALSE(Exact(&conv::kWinograd1d4, layer, Product::kInnerProduct));
  EXPECT_TRUE(Exact(&conv::kWinograd1d4, layer));
}

TEST(DeferredRange, DepthIsHowManySumsOfTwoProductsFit16Bits) {
  const auto depth = [](int qmax, int8_t code) {
    const CodeLayer layer(4, 1, 1, 1, qmax, code);
    const Proof proof = Prove(RangesOf(layer), nullptr, Product::kDeferred);
    EXPECT_EQ(proof.exact, proof.depth > 0);
    return proof.depth;
  };
  EXPECT_EQ(depth(255, 64), 1u);  // 2 * 255 * 64 = 32640
  EXPECT_EQ(depth(255, 65), 0u);
  EXPECT_EQ(depth(255, -64), 1u);
  EXPECT_EQ(depth(255, -65), 0u);
  EXPECT_EQ(depth(255, 8), 8u);
  EXPECT_EQ(depth(255, 1), 64u);
  EXPECT_EQ(depth(127, 64), 2u);  // 2 * 127 * 64 = 16256
  EXPECT_EQ(depth(127, 65), 1u);  // 16510
}

// The one bound that no other test reaches with real sums: 2x2 images whose channels reach it.
void CheckSumsAtTheBound(const WinogradFilter* filter, int64_t channels, int qmax, int8_t code) {
  const CodeLayer layer(channels, 1, 3, 2, qmax, code);
  const std::vector<uint8_t> x(static_cast<size_t>(4 * layer.shape.c), static_cast<uint8_t>(qmax));
  kernels::reference::ConvU8 conv;
  conv.shape = layer.shape;
  conv.x = x.data();
  conv.codes = layer.codes.data();
  conv.scale = layer.scale.data();
  conv.output = Floats();
  std::vector<float> want(4);
  conv.y = want.data();
  conv.y_stride = static_cast<size_t>(conv.shape.oc);
  kernels::reference::Conv2dU8(conv, 0, 4);
  for (Isa isa : {Isa::kAvx2, Isa::kAvx512Vnni}) {
    if (!CpuSupports(isa) || kernels::GetKernelSet(isa) == nullptr) continue;
    const conv::PackedConvU8 packed(*kernels::GetKernelSet(isa), layer.shape, layer.weights, {nullptr, filter, Product::kDot, 0});
    AlignedBuffer<uint8_t> scratch(packed.ScratchBytes(layer.shape));
    std::vector<float> got(4);
    conv::ConvRun<uint8_t> run;
    run.shape = layer.shape;
    run.x = x.data();
    run.output = Floats();
    run.y = got.data();
    run.y_stride = static_cast<size_t>(layer.shape.oc);
    packed.Run(run, {0, packed.OutputWork(layer.shape).rows, 0, 1}, scratch.data());
    EXPECT_EQ(got, want) << IsaName(isa);
  }
}

TEST(WinogradRange, SumsAtTheBoundComeOutRight) {
  CheckSumsAtTheBound(&conv::kWinograd2d, 67633, 63, 14);
  CheckSumsAtTheBound(&conv::kWinograd2d, 67633, 63, -14);
  CheckSumsAtTheBound(&conv::kWinograd1d, 22366, 127, 42);
  CheckSumsAtTheBound(&conv::kWinograd1d, 22366, 127, -42);
  CheckSumsAtTheBound(&conv::kWinograd1d4, 66280, 25, 18);
  CheckSumsAtTheBound(&conv::kWinograd1d4, 66280, 25, -18);
  CheckSumsAtTheBound(&conv::kWinograd4x4, 142029, 15, 7);
  CheckSumsAtTheBound(&conv::kWinograd4x4, 142029, 15, -7);
}

}  // namespace
}  // namespace pqi::test
