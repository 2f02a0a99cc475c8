// What the planner chooses, what it refuses, and what it says.
#include "plan/algorithm.h"

#include <gtest/gtest.h>

#include "base/cpu_family.h"
#include "base/isa.h"
#include "conv/method.h"
#include "conv/winograd_filter.h"
#include "pack/merge_groups.h"
#include "tests/plan/layer.h"

namespace pqi::test {
namespace {

using plan::Options;

Result<plan::CodePlan> PlanLayer(Isa isa, const CodeLayer& layer, const Options& options = {}) {
  return plan::PlanCodes(*kernels::GetKernelSet(isa), layer.shape, layer.weights, options);
}

std::string Name(const Result<plan::CodePlan>& plan) {
  if (!plan.ok()) return plan.status().message();
  const conv::Algorithm& a = plan.value().algorithm;
  if (a.method != nullptr && a.filter == nullptr) return a.method->name;
  std::string name = a.filter == nullptr ? "direct" : a.filter->suffix + 1;  // without the hyphen
  if (a.product == conv::Product::kInnerProduct) name += "+fip";
  if (a.product == conv::Product::kDeferred) name += "+deferred";
  return name;
}

// A 3x3 layer of `groups` groups of the given width.
int64_t MergedGroups(Isa isa, int64_t groups, int64_t width, const int32_t* base = nullptr) {
  CodeLayer layer(width, groups * width, 3, 28, 255, 7);
  layer.shape.c = groups * width;
  layer.shape.groups = groups;
  layer.weights.base = base;
  return plan::GroupsToMerge(*kernels::GetKernelSet(isa), layer.shape, layer.weights);
}

TEST(Planner, NarrowGroupsAreMergedAndWideOnesAreNot) {
  for (Isa isa : {Isa::kAvx2, Isa::kAvx512Vnni, Isa::kAmx, Isa::kNeon}) {
    if (kernels::GetKernelSet(isa) == nullptr) continue;
    EXPECT_GE(MergedGroups(isa, 32, 4), 2) << IsaName(isa);
    EXPECT_EQ(MergedGroups(isa, 4, 128), 1) << IsaName(isa);
    EXPECT_EQ(MergedGroups(isa, 64, 1), 1) << IsaName(isa) << " has kernels for depthwise layers";
    EXPECT_EQ(MergedGroups(isa, 1, 4), 1) << IsaName(isa);
    const std::vector<int32_t> base(128);
    EXPECT_EQ(MergedGroups(isa, 32, 4, base.data()), 1) << IsaName(isa) << " would add the activations of other groups to the base's sum";
  }
  EXPECT_EQ(MergedGroups(Isa::kReference, 32, 4), 1);
}

TEST(Planner, MergedCodesAreZeroBetweenGroups) {
  kernels::ConvShape s;  // two groups of two inputs and one output, 1x2
  s.c = 4;
  s.oc = s.groups = s.kw = 2;
  const std::vector<int8_t> codes = {1, 2, 3, 4, 5, 6, 7, 8};
  EXPECT_EQ(pack::MergedShape(s, 2).groups, 1);
  EXPECT_EQ(pack::MergedCodes(s, codes, 2), (std::vector<int8_t>{1, 2, 0, 0, 3, 4, 0, 0, 0, 0, 5, 6, 0, 0, 7, 8}));
  EXPECT_EQ(pack::MergedCodes(s, codes, 1), codes);
}

#if defined(__x86_64__)

TEST(Planner, FourBitConvolutionsRunByWinograd) {
  const CodeLayer four(128, 128, 3, 28, 15, 7), ternary(128, 128, 3, 28, 15, 1), small(256, 256, 3, 14, 15, 7);
  EXPECT_EQ(Name(PlanLayer(Isa::kAvx512Vnni, four)), "winograd4x4");
  EXPECT_EQ(Name(PlanLayer(Isa::kAvx512Vnni, small, {"auto", "off"})), "winograd") << "tiles of 4x4 waste a third of 14x14 pixels";
  EXPECT_EQ(Name(PlanLayer(Isa::kAvx2, four)), "winograd+deferred") << "4x4 leaves 16 bits no room for sums of such codes";
  EXPECT_EQ(Name(PlanLayer(Isa::kAvx2, ternary)), "winograd4x4+deferred");
}

TEST(Planner, FiveBitConvolutionsRunByWinogradWithInnerProductsWhereTheyPay) {
  const CodeLayer layer(128, 128, 3, 28, 31, 7);
  EXPECT_EQ(Name(PlanLayer(Isa::kAvx512Vnni, layer, {"auto", "off"})), "winograd");
  EXPECT_EQ(Name(PlanLayer(Isa::kAvx512Vnni, layer, {"auto", "on"})), "winograd+fip");
  EXPECT_EQ(Name(PlanLayer(Isa::kAvx512Vnni, layer)), CpuAddsBesideDots() ? "winograd+fip" : "winograd");
}

TEST(Planner, ConvolutionsOfMoreBitsRunByWinogradAlongRows) {
  const CodeLayer six(128, 128, 3, 28, 127, 31), four(128, 128, 3, 28, 63, 7);
  EXPECT_EQ(Name(PlanLayer(Isa::kAvx512Vnni, six)), "winograd1d");
  EXPECT_EQ(Name(PlanLayer(Isa::kAvx512Vnni, four, {"auto", "off"})), "winograd");
  EXPECT_EQ(Name(PlanLayer(Isa::kAvx2, six)), "direct+deferred");
  EXPECT_EQ(Name(PlanLayer(Isa::kAvx2, four)), "winograd1d+deferred");
}

TEST(Planner, WinogradAlongRowsIsForcedWhereItIsExact) {
  for (const char* algorithm : {"winograd_1d", "winograd_1d_deferred"}) {
    CodeLayer layer(64, 64, 3, 14, 127, 7);
    const std::string name = std::string(algorithm) == "winograd_1d" ? "winograd1d" : "winograd1d+deferred";
    EXPECT_EQ(Name(PlanLayer(Isa::kAvx2, layer, {algorithm, "auto"})), name);
    layer.weights.qmax = 128;
    const auto refused = PlanLayer(Isa::kAvx2, layer, {algorithm, "auto"});
    ASSERT_FALSE(refused.ok());
    EXPECT_NE(refused.status().message().find("256 wide"), std::string::npos) << refused.status().message();
  }
  EXPECT_FALSE(PlanLayer(Isa::kAvx512Vnni, CodeLayer(64, 64, 3, 14, 15, 43), {"winograd_1d", "auto"}).ok());
  EXPECT_EQ(PlanLayer(Isa::kAvx512Vnni, CodeLayer(64, 64, 3, 14, 15, 7), {"winograd_1d_deferred", "auto"}).status().code(),
            Code::kUnsupported);
}

TEST(Planner, WeightsThatComeSlowerThanTheirProductsDecide) {
  // 2x2 pixels: fewer products, but a third more bytes of weights than there is time for.
  EXPECT_EQ(Name(PlanLayer(Isa::kAvx2, CodeLayer(512, 512, 3, 2, 15, 7))), "direct+deferred");
  EXPECT_EQ(Name(PlanLayer(Isa::kAvx2, CodeLayer(512, 512, 3, 8, 15, 7))), "winograd+deferred");
}

TEST(Planner, WinogradOfFourOutputsIsForcedWhereItIsExact) {
  struct Case {
    const char *algorithm, *name, *refusal;
    int qmax;
  };
  const Case cases[] = {{"winograd_1d4", "winograd1d4", "260 wide", 25},
                        {"winograd_1d4_deferred", "winograd1d4+deferred", "260 wide", 25},
                        {"winograd_4x4", "winograd4x4", "256 wide", 15},
                        {"winograd_4x4_deferred", "winograd4x4+deferred", "256 wide", 15}};
  for (const Case& c : cases) {
    CodeLayer layer(64, 64, 3, 14, c.qmax, 3);
    EXPECT_EQ(Name(PlanLayer(Isa::kAvx2, layer, {c.algorithm, "auto"})), c.name);
    ++layer.weights.qmax;
    const auto refused = PlanLayer(Isa::kAvx2, layer, {c.algorithm, "auto"});
    ASSERT_FALSE(refused.ok());
    EXPECT_NE(refused.status().message().find(c.refusal), std::string::npos) << refused.status().message();
  }
  for (const char* algorithm : {"winograd_1d_fip", "winograd_1d4_fip"}) {
    EXPECT_NE(Name(PlanLayer(Isa::kAvx512Vnni, CodeLayer(64, 64, 3, 14, 15, 7), {algorithm, "auto"})).find("+fip"), std::string::npos);
  }
}

// Every `every`-th code is 1 or -1, the others are 0.
void Thin(CodeLayer* layer, size_t every) {
  for (size_t i = 0; i < layer->codes.size(); ++i) layer->codes[i] = static_cast<int8_t>(i % every != 0 ? 0 : i / every % 2 == 0 ? 1 : -1);
}

TEST(Planner, LayersOfMostlyZerosRunBySparseSums) {
  for (const int qmax : {15, 255}) {
    for (const int64_t stride : {1, 2}) {
      CodeLayer layer(256, 256, 3, 14, qmax, 1);
      layer.shape.stride_h = layer.shape.stride_w = stride;
      Thin(&layer, 9);
      EXPECT_EQ(Name(PlanLayer(Isa::kAvx2, layer)), "sparse");
      EXPECT_EQ(Name(PlanLayer(Isa::kAvx512Vnni, layer)), "sparse");
      EXPECT_EQ(Name(PlanLayer(Isa::kAmx, layer)), "direct") << "matrix registers multiply by zeros faster than others add";
      Thin(&layer, 50);
      if (stride == 1) EXPECT_EQ(Name(PlanLayer(Isa::kAmx, layer)), "sparse");
      Thin(&layer, 1);
      EXPECT_NE(Name(PlanLayer(Isa::kAvx2, layer)), "sparse");
      EXPECT_NE(Name(PlanLayer(Isa::kAvx512Vnni, layer)), "sparse");
    }
  }
  CodeLayer linear(512, 1000, 1, 1, 15, 1);  // one row fills no vector
  Thin(&linear, 9);
  EXPECT_EQ(Name(PlanLayer(Isa::kAvx512Vnni, linear)).find("sparse"), std::string::npos);
}

TEST(Planner, SparseSumsAreForcedWhereAdditionsAreFewerThanWeights) {
  CodeLayer layer(64, 64, 3, 14, 255, 1);
  const Options forced = {"sparse", "auto"};
  EXPECT_EQ(Name(PlanLayer(Isa::kAvx2, layer, forced)), "sparse");
  layer.codes[0] = 2;
  EXPECT_EQ(Name(PlanLayer(Isa::kAvx2, layer, forced)), "direct");
  EXPECT_NE(PlanLayer(Isa::kAvx2, layer, forced).value().reason.find("36865 additions for 36864 weights"), std::string::npos);
  const std::vector<int32_t> base(64, 1);
  layer.codes[0] = 1;
  layer.weights.base = base.data();
  EXPECT_EQ(Name(PlanLayer(Isa::kAvx2, layer, forced)), "direct");
}

TEST(Planner, EightBitConvolutionsStayDirect) {
  const CodeLayer layer(128, 128, 3, 28, 255, 127);
  EXPECT_EQ(Name(PlanLayer(Isa::kAvx512Vnni, layer)), "direct");
  EXPECT_EQ(Name(PlanLayer(Isa::kAvx2, layer)), "direct");
}

TEST(Planner, LayersTooSmallToGainStayDirect) {
  EXPECT_EQ(Name(PlanLayer(Isa::kAvx512Vnni, CodeLayer(16, 16, 3, 32, 15, 7))), "direct");
  EXPECT_EQ(Name(PlanLayer(Isa::kAvx512Vnni, CodeLayer(128, 128, 3, 1, 15, 7), {"auto", "off"})), "direct") << "a tile of one pixel";
}

TEST(Planner, OneByOneConvolutionsTakeInnerProducts) {
  const CodeLayer layer(256, 256, 1, 14, 15, 7);
  EXPECT_EQ(Name(PlanLayer(Isa::kAvx512Vnni, layer, {"auto", "on"})), "direct+fip");
  EXPECT_EQ(Name(PlanLayer(Isa::kAvx512Vnni, layer, {"auto", "off"})), "direct");
  EXPECT_EQ(Name(PlanLayer(Isa::kAvx512Vnni, CodeLayer(252, 256, 1, 14, 15, 7), {"auto", "on"})), "direct") << "252 is no multiple of 8";
}

TEST(Planner, RefusesAForcedAlgorithmOneStepOutsideItsRangeWithTheNumbers) {
  for (const char* algorithm : {"winograd", "winograd_fip"}) {
    CodeLayer layer(64, 64, 3, 14, 48, 7);
    EXPECT_TRUE(PlanLayer(Isa::kAvx512Vnni, layer, {algorithm, "auto"}).ok());
    layer.weights.qmax = 64;
    const auto refused = PlanLayer(Isa::kAvx512Vnni, layer, {algorithm, "auto"});
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.status().code(), Code::kInvalidArgument);
    EXPECT_NE(refused.status().message().find("256 wide"), std::string::npos) << refused.status().message();
  }
  const auto fip = PlanLayer(Isa::kAvx512Vnni, CodeLayer(64, 64, 1, 14, 249, 7), {"fip", "auto"});
  ASSERT_FALSE(fip.ok());
  EXPECT_NE(fip.status().message().find("is 256, limit 255"), std::string::npos) << fip.status().message();
  EXPECT_FALSE(PlanLayer(Isa::kAvx2, CodeLayer(64, 64, 1, 14, 255, 65), {"deferred", "auto"}).ok());
}

TEST(Planner, AForcedAlgorithmLeavesLayersOfOtherShapesDirect) {
  const auto plan = PlanLayer(Isa::kAvx512Vnni, CodeLayer(64, 64, 1, 14, 15, 7), {"winograd", "auto"});
  EXPECT_EQ(Name(plan), "direct");
  EXPECT_NE(plan.value().reason.find("not 3x3"), std::string::npos);
}

TEST(Planner, AForcedAlgorithmWithoutAKernelIsUnsupported) {
  const CodeLayer layer(64, 64, 3, 14, 15, 7);
  EXPECT_EQ(PlanLayer(Isa::kAvx2, layer, {"fip", "auto"}).status().code(), Code::kUnsupported);
  EXPECT_EQ(PlanLayer(Isa::kAvx512Vnni, layer, {"deferred", "auto"}).status().code(), Code::kUnsupported);
  EXPECT_EQ(PlanLayer(Isa::kAmx, layer, {"winograd", "auto"}).status().code(), Code::kUnsupported);
}

TEST(Planner, SaysWhyWinogradIsNotExact) {
  const auto plan = PlanLayer(Isa::kAvx512Vnni, CodeLayer(128, 128, 3, 28, 255, 7), {"auto", "off"});
  EXPECT_EQ(Name(plan), "direct");
  EXPECT_NE(plan.value().reason.find("not winograd"), std::string::npos) << plan.value().reason;
}

#endif

TEST(Planner, TheReferenceHasOneWay) {
  const CodeLayer layer(64, 64, 3, 14, 15, 7);
  EXPECT_EQ(Name(PlanLayer(Isa::kReference, layer)), "direct");
  EXPECT_EQ(Name(PlanLayer(Isa::kReference, layer, {"winograd", "on"})), "direct");
}

TEST(Planner, UnknownOptionsAreListed) {
  EXPECT_TRUE(plan::CheckOptions({}).ok());
  EXPECT_NE(plan::CheckOptions({"fast", "auto"}).message().find("winograd_deferred"), std::string::npos);
  EXPECT_NE(plan::CheckOptions({"auto", "yes"}).message().find("on or off"), std::string::npos);
}

}  // namespace
}  // namespace pqi::test
