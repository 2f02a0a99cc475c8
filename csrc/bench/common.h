// The ISAs to run on, operands and counters of a result line, for all suites.
#pragma once

#include <benchmark/benchmark.h>

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "base/aligned.h"
#include "base/isa.h"
#include "bench/peak.h"
#include "kernels/kernel_set.h"

namespace pqi::bench {

void RegisterCodecs();
void RegisterTiles();
void RegisterConvs();
void RegisterLowBit();
void RegisterElementwise();
void RegisterLinears();
void RegisterPools();
void RegisterSelfCheck();

// The ISAs that this CPU runs, without the reference.
inline std::vector<Isa> BenchedIsas() {
  std::vector<Isa> isas;
  for (int i = 0; i < kIsaCount; ++i) {
    const Isa isa = static_cast<Isa>(i);
    if (isa != Isa::kReference && CpuSupports(isa) && kernels::GetKernelSet(isa) != nullptr) isas.push_back(isa);
  }
  return isas;
}

template <typename T>
AlignedBuffer<T> RandomBuffer(int64_t n, int lo, int hi) {
  AlignedBuffer<T> buffer(static_cast<size_t>(n));
  std::minstd_rand engine(1);
  for (T& x : buffer) x = static_cast<T>(lo + static_cast<int>(engine() % static_cast<unsigned>(hi - lo + 1)));
  return buffer;
}

inline void ReportMacs(benchmark::State& state, Isa isa, Product product, int64_t macs_per_iteration) {
  const double macs = static_cast<double>(macs_per_iteration) * static_cast<double>(state.iterations());
  state.counters["GMAC/s"] = benchmark::Counter(macs / 1e9, benchmark::Counter::kIsRate);
  state.counters["of_peak"] = benchmark::Counter(macs / PeakMacs(isa, product), benchmark::Counter::kIsRate);
}

}  // namespace pqi::bench
