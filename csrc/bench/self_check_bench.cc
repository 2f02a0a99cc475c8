// The time that the first session of a process takes to check its kernels.
#include "bench/common.h"
#include "kernels/sets.h"
#include "runtime/self_check.h"

namespace pqi::bench {

void RegisterSelfCheck() {
  for (Isa isa : BenchedIsas()) {
    benchmark::RegisterBenchmark((std::string("self_check/") + IsaName(isa)).c_str(), [isa](benchmark::State& state) {
      const kernels::KernelSet* set = kernels::GetKernelSet(isa);
      for (auto _ : state) {
        const std::string wrong = FindWrongKernel(*set);
        if (!wrong.empty()) state.SkipWithError(("wrong: " + wrong).c_str());
      }
    })->Unit(benchmark::kMillisecond);
  }
}

}  // namespace pqi::bench
