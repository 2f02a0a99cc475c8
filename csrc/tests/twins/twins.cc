#include "tests/twins/twins.h"

#include "kernels/kernel_set.h"

namespace pqi::kernels {

#if defined(__x86_64__)
extern const KernelSet kAvxVnniEvexKernels;
extern const KernelSet kAmxEmulatedKernels;
#endif

}  // namespace pqi::kernels

namespace pqi::test {

std::vector<TestedSet> TestedSets() {
  std::vector<TestedSet> sets;
  for (int i = 0; i < kIsaCount; ++i) {
    const Isa isa = static_cast<Isa>(i);
    const kernels::KernelSet* set = kernels::GetKernelSet(isa);
    if (isa != Isa::kReference && set != nullptr) sets.push_back({IsaName(isa), set, isa});
  }
#if defined(__x86_64__)
  sets.push_back({"avxvnni_evex", &kernels::kAvxVnniEvexKernels, Isa::kAvx512Vnni});
  sets.push_back({"amx_emulated", &kernels::kAmxEmulatedKernels, Isa::kAvx512Vnni});
#endif
  return sets;
}

std::vector<TestedSet> RunnableSets() {
  std::vector<TestedSet> sets{{"reference", kernels::GetKernelSet(Isa::kReference), Isa::kReference}};
  for (const TestedSet& set : TestedSets()) {
    if (CpuSupports(set.needs)) sets.push_back(set);
  }
  return sets;
}

}  // namespace pqi::test
