// Each bound of docs/numerics.md from both sides: on it an algorithm is proved, one step beyond it is refused.
#include "plan/range.h"

#include <gtest/gtest.h>

#include "kernels/reference/conv.h"
#include "pack/conv.h"
#include "tests/kernels/cases.h"
#include "tests/plan/layer.h"

namespace pqi::test {
namespace {

using plan::CodeRanges;
using plan::Proof;

CodeRanges RangesOf(const CodeLayer& layer) { return plan::FindRanges(layer.shape, layer.weights); }

bool Exact(Proof (*prove)(const CodeRanges&), const CodeLayer& layer) { return prove(RangesOf(layer)).exact; }

void ExpectInputCodesAtMostApart(Proof (*prove)(const CodeRanges&), int width) {
  CodeLayer layer(4, 2, 3, 8, width, 1);
  EXPECT_TRUE(Exact(prove, layer));
  layer.weights.qmax = width + 1;
  EXPECT_FALSE(Exact(prove, layer));
  layer.weights.qmin = 1;
  layer.weights.zero_point = 1;
  EXPECT_TRUE(Exact(prove, layer)) << "the width counts, not the largest code";
}

TEST(WinogradRange, InputCodesAreAtMost63Apart) { ExpectInputCodesAtMostApart(plan::ProveWinograd, 63); }

TEST(WinogradRange, CodesTo14AlwaysFit) {
  EXPECT_TRUE(Exact(plan::ProveWinograd, CodeLayer(4, 2, 3, 8, 63, 14)));
  EXPECT_TRUE(Exact(plan::ProveWinograd, CodeLayer(4, 2, 3, 8, 63, -14)));
}

TEST(WinogradRange, TransformedCodesCountNotTheCodesThemselves) {
  CodeLayer layer(1, 1, 3, 8, 15, 14);
  layer.tap(4) = 15;  // position 5 is the sum of all nine: 127
  EXPECT_TRUE(Exact(plan::ProveWinograd, layer));
  layer.tap(4) = 16;  // 128
  EXPECT_FALSE(Exact(plan::ProveWinograd, layer));
  for (int8_t& code : layer.codes) code = -14;
  layer.tap(4) = -16;  // -128
  EXPECT_TRUE(Exact(plan::ProveWinograd, layer));
  layer.tap(4) = -17;
  EXPECT_FALSE(Exact(plan::ProveWinograd, layer));
  for (int8_t& code : layer.codes) code = 0;
  layer.tap(0) = 31;  // position 0 is four times the first tap: 124
  EXPECT_TRUE(Exact(plan::ProveWinograd, layer));
  layer.tap(0) = 32;
  EXPECT_FALSE(Exact(plan::ProveWinograd, layer));
}

TEST(WinogradRange, FourTimesTheAccumulatorFitsInt32) {
  // 4 * 14 * 9 * 63 = 31752 per channel; 2147483647 / 31752 = 67633.02
  EXPECT_TRUE(Exact(plan::ProveWinograd, CodeLayer(67633, 1, 3, 1, 63, 14)));
  EXPECT_FALSE(Exact(plan::ProveWinograd, CodeLayer(67634, 1, 3, 1, 63, 14)));
}

TEST(Winograd1dRange, InputCodesAreAtMost127Apart) { ExpectInputCodesAtMostApart(plan::ProveWinograd1d, 127); }

TEST(Winograd1dRange, CodesTo42AlwaysFit) {
  EXPECT_TRUE(Exact(plan::ProveWinograd1d, CodeLayer(4, 2, 3, 8, 127, 42)));
  EXPECT_TRUE(Exact(plan::ProveWinograd1d, CodeLayer(4, 2, 3, 8, 127, -42)));
  EXPECT_FALSE(Exact(plan::ProveWinograd1d, CodeLayer(4, 2, 3, 8, 127, 43))) << "43 + 43 + 43 = 129";
  EXPECT_FALSE(Exact(plan::ProveWinograd1d, CodeLayer(4, 2, 3, 8, 127, -43)));
}

TEST(Winograd1dRange, TransformedCodesCountNotTheCodesThemselves) {
  CodeLayer layer(1, 1, 3, 8, 15, 43);
  for (int64_t row = 0; row < 3; ++row) {
    layer.tap(row * 3) = 41;
    layer.tap(row * 3 + 1) = 43;
    layer.tap(row * 3 + 2) = 43;  // 127
  }
  EXPECT_TRUE(Exact(plan::ProveWinograd1d, layer));
  layer.tap(8) = 44;
  EXPECT_FALSE(Exact(plan::ProveWinograd1d, layer));
  for (int8_t& code : layer.codes) code = 0;
  layer.tap(3) = 63;  // position 0 is twice the first tap of a row: 126
  EXPECT_TRUE(Exact(plan::ProveWinograd1d, layer));
  layer.tap(3) = 64;
  EXPECT_FALSE(Exact(plan::ProveWinograd1d, layer));
  layer.tap(3) = -64;
  EXPECT_TRUE(Exact(plan::ProveWinograd1d, layer));
  layer.tap(3) = 0;
  layer.tap(1) = 127;
  EXPECT_TRUE(Exact(plan::ProveWinograd1d, layer)) << "the middle one counts once";
}

TEST(Winograd1dRange, TwiceTheAccumulatorFitsInt32) {
  // 2 * 42 * 9 * 127 = 96012 per channel; 2147483647 / 96012 = 22366.82
  EXPECT_TRUE(Exact(plan::ProveWinograd1d, CodeLayer(22366, 1, 3, 1, 127, 42)));
  EXPECT_FALSE(Exact(plan::ProveWinograd1d, CodeLayer(22367, 1, 3, 1, 127, 42)));
}

TEST(Winograd1dRange, DepthOfDeferredSumsFollowsFromTransformedValues) {
  const auto depth = [](int qmax, int8_t code) { return plan::ProveWinograd1dDeferred(RangesOf(CodeLayer(4, 2, 3, 8, qmax, code))).depth; };
  EXPECT_EQ(depth(127, 21), 1u);  // 2 * 254 * 63 = 32004
  EXPECT_EQ(depth(127, 22), 0u);  // 2 * 254 * 66 = 33528
  EXPECT_EQ(depth(127, 7), 3u);
  EXPECT_EQ(depth(128, 1), 0u) << "not exact by any product";
}

TEST(WinogradRange, OtherShapesAreRefused) {
  for (auto change : {+[](kernels::ConvShape& s) { s.stride_h = 2; }, +[](kernels::ConvShape& s) { s.stride_w = 2; },
                      +[](kernels::ConvShape& s) { s.dilation_w = 2; }, +[](kernels::ConvShape& s) { s.groups = 2; }}) {
    CodeLayer layer(4, 2, 3, 8, 15, 7);
    change(layer.shape);
    EXPECT_FALSE(Exact(plan::ProveWinograd, layer));
    EXPECT_FALSE(Exact(plan::ProveWinograd1d, layer));
  }
  EXPECT_FALSE(Exact(plan::ProveWinograd, CodeLayer(4, 2, 5, 8, 15, 7)));
  EXPECT_FALSE(Exact(plan::ProveWinograd1d, CodeLayer(4, 2, 5, 8, 15, 7)));
}

TEST(InnerProductRange, LargestInputPlusTheRangeOfCodesIsAtMost255) {
  CodeLayer layer(8, 2, 1, 8, 241, 7);
  layer.tap(0) = -7;
  EXPECT_TRUE(Exact(plan::ProveInnerProduct, layer));
  layer.weights.qmax = 242;
  EXPECT_FALSE(Exact(plan::ProveInnerProduct, layer));
  layer.weights.qmax = 128;
  layer.tap(0) = -127;
  layer.tap(1) = 0;
  for (size_t i = 1; i < layer.codes.size(); ++i) layer.codes[i] = 0;
  EXPECT_TRUE(Exact(plan::ProveInnerProduct, layer));
  layer.weights.qmax = 1;
  layer.codes[0] = -128;
  EXPECT_FALSE(Exact(plan::ProveInnerProduct, layer)) << "a code of -128 is not allowed";
}

TEST(InnerProductRange, InsideWinogradTheTransformedValuesCount) {
  CodeLayer layer(8, 2, 3, 8, 48, 7);  // 4 * 48 + 63 = 255
  EXPECT_TRUE(Exact(plan::ProveWinogradInnerProduct, layer));
  layer.weights.qmax = 49;
  EXPECT_FALSE(Exact(plan::ProveWinogradInnerProduct, layer));
  EXPECT_TRUE(Exact(plan::ProveWinograd, layer));
}

TEST(DeferredRange, DepthIsHowManySumsOfTwoProductsFit16Bits) {
  const auto depth = [](int qmax, int8_t code) {
    const CodeLayer layer(4, 1, 1, 1, qmax, code);
    const Proof proof = plan::ProveDeferred(RangesOf(layer));
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
void CheckSumsAtTheBound(pack::Winograd winograd, int64_t channels, int qmax, int8_t code) {
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
    const pack::PackedConvU8 packed(*kernels::GetKernelSet(isa), layer.shape, layer.weights, {winograd, pack::Product::kDot, 0});
    AlignedBuffer<uint8_t> scratch(packed.ScratchBytes(layer.shape));
    std::vector<float> got(4);
    pack::ConvRun<uint8_t> run;
    run.shape = layer.shape;
    run.x = x.data();
    run.output = Floats();
    run.y = got.data();
    run.y_stride = static_cast<size_t>(layer.shape.oc);
    packed.Run(run, {0, pack::OutputUnits(packed.layout(), layer.shape), 0, 1}, scratch.data());
    EXPECT_EQ(got, want) << IsaName(isa);
  }
}

TEST(WinogradRange, SumsAtTheBoundComeOutRight) {
  CheckSumsAtTheBound(pack::Winograd::k2d, 67633, 63, 14);
  CheckSumsAtTheBound(pack::Winograd::k2d, 67633, 63, -14);
  CheckSumsAtTheBound(pack::Winograd::k1d, 22366, 127, 42);
  CheckSumsAtTheBound(pack::Winograd::k1d, 22366, 127, -42);
}

}  // namespace
}  // namespace pqi::test
