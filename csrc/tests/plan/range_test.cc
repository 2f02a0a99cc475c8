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

TEST(WinogradRange, InputCodesAreAtMost63Apart) {
  CodeLayer layer(4, 2, 3, 8, 63, 1);
  EXPECT_TRUE(Exact(plan::ProveWinograd, layer));
  layer.weights.qmax = 64;
  EXPECT_FALSE(Exact(plan::ProveWinograd, layer));
  layer.weights.qmin = 1;
  layer.weights.zero_point = 1;
  EXPECT_TRUE(Exact(plan::ProveWinograd, layer)) << "the width counts, not the largest code";
}

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

TEST(WinogradRange, OtherShapesAreRefused) {
  for (auto change : {+[](kernels::ConvShape& s) { s.stride_h = 2; }, +[](kernels::ConvShape& s) { s.stride_w = 2; },
                      +[](kernels::ConvShape& s) { s.dilation_w = 2; }, +[](kernels::ConvShape& s) { s.groups = 2; }}) {
    CodeLayer layer(4, 2, 3, 8, 15, 7);
    change(layer.shape);
    EXPECT_FALSE(Exact(plan::ProveWinograd, layer));
  }
  EXPECT_FALSE(Exact(plan::ProveWinograd, CodeLayer(4, 2, 5, 8, 15, 7)));
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

// The one bound that no other test reaches with real sums.
TEST(WinogradRange, SumsAtTheBoundComeOutRight) {
  Random random(3);
  CodeLayer layer(67633, 1, 3, 2, 63, 14);
  const std::vector<uint8_t> x(static_cast<size_t>(4 * layer.shape.c), 63);
  kernels::reference::ConvU8 conv;
  conv.shape = layer.shape;
  conv.x = x.data();
  conv.codes = layer.codes.data();
  conv.scale = layer.scale.data();
  conv.output = Floats();
  std::vector<float> want(4);
  conv.y = want.data();
  kernels::reference::Conv2dU8(conv, 0, 4);
  for (Isa isa : {Isa::kAvx2, Isa::kAvx512Vnni}) {
    if (!CpuSupports(isa) || kernels::GetKernelSet(isa) == nullptr) continue;
    const pack::PackedConvU8 packed(*kernels::GetKernelSet(isa), layer.shape, layer.weights, {pack::Winograd::k2d, pack::Product::kDot, 0});
    AlignedBuffer<uint8_t> scratch(packed.ScratchBytes(layer.shape));
    std::vector<float> got(4);
    pack::ConvRun<uint8_t> run;
    run.shape = layer.shape;
    run.x = x.data();
    run.output = Floats();
    run.y = got.data();
    packed.Run(run, {0, 1, 0, 1}, scratch.data());
    EXPECT_EQ(got, want) << IsaName(isa);
  }
}

}  // namespace
}  // namespace pqi::test
