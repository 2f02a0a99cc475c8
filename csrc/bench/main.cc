// Registers every suite and prints what the figures depend on: CPU, compiler, peaks.
#include "bench/common.h"

int main(int argc, char** argv) {
  using pqi::bench::PeakMacs;
  using pqi::bench::Product;
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::AddCustomContext("cpu", pqi::CpuBrand());
  benchmark::AddCustomContext("compiler", __VERSION__);
  for (pqi::Isa isa : pqi::bench::BenchedIsas()) {
    const std::string name = pqi::IsaName(isa);
    benchmark::AddCustomContext("peak GMAC/s u8s8 " + name, std::to_string(PeakMacs(isa, Product::kU8S8) / 1e9));
    benchmark::AddCustomContext("peak GMAC/s f32 " + name, std::to_string(PeakMacs(isa, Product::kF32) / 1e9));
  }
  pqi::bench::RegisterCodecs();
  pqi::bench::RegisterTiles();
  pqi::bench::RegisterConvs();
  pqi::bench::RegisterLowBit();
  pqi::bench::RegisterElementwise();
  pqi::bench::RegisterLinears();
  pqi::bench::RegisterPools();
  pqi::bench::RegisterSelfCheck();
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
