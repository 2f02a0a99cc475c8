#include "tests/twins/twins.h"

#include "kernels/sets.h"

namespace pqi::kernels {

#if defined(__x86_64__)
extern const KernelSet kAvxVnniEvexKernels;
extern const KernelSet kAmxEmulatedKernels;
#endif

}  // namespace pqi::kernels

namespace pqi::test {

std::vector<TestedSet> TestedSets() {
  std::vector<TestedSet> sets;
#define PQI_KERNEL_SET(isa, name) \
  if (Isa::isa != Isa::kReference) sets.push_back({IsaName(Isa::isa), &kernels::name, Isa::isa});
#include "kernels/list.inc"
#undef PQI_KERNEL_SET
#if defined(__x86_64__)
  sets.push_back({"avxvnni_evex", &kernels::kAvxVnniEvexKernels, Isa::kAvx512Vnni});
  sets.push_back({"amx_emulated", &kernels::kAmxEmulatedKernels, Isa::kAvx512Vnni});
#endif
  return sets;
}

std::vector<TestedSet> RunnableSets() {
  std::vector<TestedSet> sets{{"reference", &kernels::kReferenceKernels, Isa::kReference}};
  for (const TestedSet& set : TestedSets()) {
    if (CpuSupports(set.needs)) sets.push_back(set);
  }
  return sets;
}

}  // namespace pqi::test
