// Kernels for codes of few bits, on every set that has them: the strongest one here may have none.
#include <gtest/gtest.h>

#include <string>

#include "runtime/self_check.h"
#include "tests/runtime/breakage.h"
#include "tests/twins/twins.h"

namespace pqi::test {
namespace {

using kernels::KernelSet;

TEST(SelfCheck, FindsWrongKernelsForCodesOfFewBits) {
  const Breakage breakages[] = {
      {"Winograd in one dimension",
       [](KernelSet* s) {
         s->winograd_1d.input = [](const kernels::WinogradInput& t) noexcept {
           original->winograd_1d.input(t);
           Spoil(t.v);
         };
       }},
      {"Winograd in one dimension",
       [](KernelSet* s) {
         s->winograd_1d.output = [](const kernels::WinogradOutput& t) noexcept {
           original->winograd_1d.output(t);
           Spoil(t.epilogue.out);
         };
       }},
      {"Winograd",
       [](KernelSet* s) {
         s->winograd_2d.input = [](const kernels::WinogradInput& t) noexcept {
           original->winograd_2d.input(t);
           Spoil(t.v);
         };
       }},
      {"Winograd",
       [](KernelSet* s) {
         s->winograd_2d.output = [](const kernels::WinogradOutput& t) noexcept {
           original->winograd_2d.output(t);
           if (t.epilogue.output.f32) Spoil(t.epilogue.out);
         };
       }},
      {"Winograd of four outputs",
       [](KernelSet* s) {
         s->winograd_1d4.input = [](const kernels::WinogradInput& t) noexcept {
           original->winograd_1d4.input(t);
           Spoil(t.v);
         };
       }},
      {"Winograd of four outputs",
       [](KernelSet* s) {
         s->winograd_1d4.output = [](const kernels::WinogradOutput& t) noexcept {
           original->winograd_1d4.output(t);
           Spoil(t.epilogue.out);
         };
       }},
      {"Winograd of 4x4 outputs",
       [](KernelSet* s) {
         s->winograd_4x4.input = [](const kernels::WinogradInput& t) noexcept {
           original->winograd_4x4.input(t);
           Spoil(t.v);
         };
       }},
      {"Winograd of 4x4 outputs",
       [](KernelSet* s) {
         s->winograd_4x4.output = [](const kernels::WinogradOutput& t) noexcept {
           original->winograd_4x4.output(t);
           if (t.epilogue.output.f32) Spoil(t.epilogue.out);
         };
       }},
      {"inner products",
       [](KernelSet* s) {
         s->row_terms = [](const kernels::RowTerms& t) noexcept {
           original->row_terms(t);
           Spoil(t.row);
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
