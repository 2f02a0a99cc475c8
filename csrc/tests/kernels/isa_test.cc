#include "base/isa.h"

#include <gtest/gtest.h>

#include "kernels/contract/tile.h"
#include "kernels/kernel_set.h"

namespace pqi::test {
namespace {

TEST(Isa, NamesRoundTrip) {
  for (int i = 0; i < kIsaCount; ++i) {
    const Isa isa = static_cast<Isa>(i);
    const Result<Isa> parsed = ParseIsa(IsaName(isa));
    ASSERT_TRUE(parsed.ok()) << IsaName(isa);
    EXPECT_EQ(parsed.value(), isa);
  }
}

TEST(Isa, RefusesUnknownNamesAndListsTheKnownOnes) {
  for (const char* name : {"", "auto", "AVX2", "avx2 ", "sse9"}) {
    const Result<Isa> parsed = ParseIsa(name);
    ASSERT_FALSE(parsed.ok()) << name;
    EXPECT_EQ(parsed.status().code(), Code::kInvalidArgument);
    for (int i = 0; i < kIsaCount; ++i) {
      EXPECT_NE(parsed.status().message().find(IsaName(static_cast<Isa>(i))), std::string::npos) << parsed.status().message();
    }
  }
}

TEST(Isa, EveryCpuRunsTheReference) {
  EXPECT_TRUE(CpuSupports(Isa::kReference));
  ASSERT_NE(kernels::GetKernelSet(Isa::kReference), nullptr);
}

// "auto" takes the last set that a CPU has (base/isa.inc). A parent stands before its children by a check of the compiler; these two are
// siblings, and CPUs with AMX have both.
TEST(Isa, SetsOfWiderVectorsArePreferred) { EXPECT_LT(Isa::kAvxVnni, Isa::kAvx512); }

TEST(Isa, BrandIsTrimmedText) {
  const std::string brand = CpuBrand();
  ASSERT_FALSE(brand.empty());
  EXPECT_NE(brand.front(), ' ');
  EXPECT_NE(brand.back(), ' ');
}

TEST(KernelSets, DescribeThemselves) {
  for (int i = 0; i < kIsaCount; ++i) {
    const kernels::KernelSet* set = kernels::GetKernelSet(static_cast<Isa>(i));
    if (set == nullptr) continue;
    EXPECT_EQ(static_cast<int>(set->isa), i);
    EXPECT_LE(set->u8s8.mr, kernels::kMaxMr);
    for (int m = 0; m < kernels::kMaxMr; ++m) {
      EXPECT_EQ(set->u8s8_tile[m] != nullptr, m < set->u8s8.mr) << IsaName(set->isa) << " " << m;
      EXPECT_EQ(set->f32_tile[m] != nullptr, m < set->f32.mr) << IsaName(set->isa) << " " << m;
    }
  }
}

}  // namespace
}  // namespace pqi::test
