// Kernels for codes of few bits, on every set that has them: the strongest one here may have none.
#include <gtest/gtest.h>

#include <string>

#include "runtime/self_check.h"
#include "tests/runtime/breakage.h"
#include "tests/twins/twins.h"

namespace pqi::test {
namespace {

using kernels::KernelSet;

template <kernels::WinogradKernels kernels::WinogradSet::* Filter>
void BreakInput(KernelSet* s) {
  (s->*Filter).input = [](const kernels::WinogradInput& t) noexcept {
    (original->*Filter).input(t);
    Spoil(t.v);
  };
}
template <kernels::WinogradKernels kernels::WinogradSet::* Filter>
void BreakOutput(KernelSet* s) {
  (s->*Filter).output = [](const kernels::WinogradOutput& t) noexcept {
    (original->*Filter).output(t);
    Spoil(t.epilogue.out);
  };
}
// Breaks what a kernel writes as floats, and leaves codes right.
template <kernels::WinogradKernels kernels::WinogradSet::* Filter>
void BreakFloatOutput(KernelSet* s) {
  (s->*Filter).output = [](const kernels::WinogradOutput& t) noexcept {
    (original->*Filter).output(t);
    if (t.epilogue.output.f32) Spoil(t.epilogue.out);
  };
}

template <kernels::SparseKernels kernels::SparseSet::* Form>
void BreakSparsePlanes(KernelSet* s) {
  (s->*Form).planes = [](const kernels::SparsePlanes& t) noexcept {
    (original->*Form).planes(t);
    Spoil(t.planes);
  };
}
template <kernels::SparseKernels kernels::SparseSet::* Form>
void LeaveSparseSums(KernelSet* s) {
  for (kernels::SparseSumsFn& add : (s->*Form).store) add = [](const kernels::SparseSums&) noexcept {};
}

TEST(SelfCheck, FindsWrongKernelsForCodesOfFewBits) {
  const Breakage breakages[] = {
      {"Winograd in one dimension", BreakInput<&KernelSet::winograd_1d>},
      {"Winograd in one dimension", BreakOutput<&KernelSet::winograd_1d>},
      {"Winograd of four outputs", BreakInput<&KernelSet::winograd_1d4>},
      {"Winograd of four outputs", BreakOutput<&KernelSet::winograd_1d4>},
      {"Winograd of 4x4 outputs", BreakInput<&KernelSet::winograd_4x4>},
      {"Winograd of 4x4 outputs", BreakFloatOutput<&KernelSet::winograd_4x4>},
      {"Winograd", BreakInput<&KernelSet::winograd_2d>},
      {"Winograd", BreakFloatOutput<&KernelSet::winograd_2d>},
      {"inner products",
       [](KernelSet* s) {
         s->row_terms = [](const kernels::RowTerms& t) noexcept {
           original->row_terms(t);
           Spoil(t.row);
         };
       }},
      {"sparse sums of bytes", BreakSparsePlanes<&KernelSet::sparse_bytes>},
      {"sparse sums of 16 bits", BreakSparsePlanes<&KernelSet::sparse_wide>},
      {"sparse sums of bytes", LeaveSparseSums<&KernelSet::sparse_bytes>},
      {"sparse sums of 16 bits", LeaveSparseSums<&KernelSet::sparse_wide>},
      {"sparse sums of bytes",
       [](KernelSet* s) {
         s->sparse_output = [](const kernels::SparseOutput& t) noexcept {
           original->sparse_output(t);
           Spoil(t.epilogue.out);
         };
       }},
      {"deferred sums",
       [](KernelSet* s) {
         for (kernels::TileU8S8Fn& tile : s->u8s8_deferred.tile) {
           tile = [](const kernels::TileU8S8& t) noexcept { Spoil(t.out); };
         }
       }},
  };
  for (const TestedSet& set : RunnableSets()) {
    if (set.set->winograd_1d.input == nullptr) continue;
    original = set.set;
    for (const Breakage& breakage : breakages) {
      const std::string name = breakage.name;
      if (name == "inner products" && original->row_terms == nullptr) continue;
      if (name == "deferred sums" && original->u8s8_deferred.shape.mr == 0) continue;
      KernelSet broken = *original;
      breakage.apply(&broken);
      EXPECT_EQ(FindWrongKernel(broken), name) << set.name;
    }
  }
}

}  // namespace
}  // namespace pqi::test
