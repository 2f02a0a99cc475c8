// Tile kernels on operands that stay in L1 and L2: tile/<product>/<isa>/m<rows>/n<channels>/taps<t>/k<k>.
#include "bench/common.h"
#include "kernels/contract/tile.h"
#include "kernels/kernel_set.h"

namespace pqi::bench {
namespace {

using kernels::KernelSet;

struct TileCase {
  int m, n;
  int64_t taps, k;
};

// Pointers to rows that overlap in one buffer, as those of neighbouring pixels of an image do.
template <typename T>
std::vector<const T*> RowPointers(const T* x, const TileCase& c) {
  std::vector<const T*> pointers;
  for (int64_t t = 0; t < c.taps; ++t) {
    for (int64_t i = 0; i < c.m; ++i) pointers.push_back(x + (t + i) * c.k);
  }
  return pointers;
}

void RunU8S8(benchmark::State& state, const KernelSet* set, TileCase c) {
  const int64_t nr = set->u8s8.nr, kr = set->u8s8.kr;
  const auto x = RandomBuffer<uint8_t>((c.taps + c.m) * c.k, 0, 255);
  const auto panel = RandomBuffer<int8_t>(c.taps * ((c.k + kr - 1) / kr * kr) * nr, -128, 127);
  const auto init = RandomBuffer<int32_t>(nr, -1000, 1000);
  const auto scale = RandomBuffer<float>(nr, 1, 1), bias = RandomBuffer<float>(nr, -3, 3);
  const std::vector<const uint8_t*> pointers = RowPointers(x.data(), c);
  AlignedBuffer<uint8_t> out(static_cast<size_t>(c.m * nr));
  kernels::TileU8S8 t = {};
  t.a = pointers.data();
  t.taps = static_cast<uint32_t>(c.taps);
  t.k = static_cast<uint32_t>(c.k);
  t.n = static_cast<uint32_t>(c.n);
  t.w = panel.data();
  t.init = init.data();
  t.scale = scale.data();
  t.bias = bias.data();
  t.step = 1;
  t.output.saturates = true;
  t.out = out.data();
  t.out_stride = static_cast<size_t>(nr);
  const kernels::TileScope scope(*set);
  for (auto _ : state) {
    set->u8s8_tile[c.m - 1](t);
    benchmark::ClobberMemory();
  }
  ReportMacs(state, set->isa, Product::kU8S8, c.m * c.n * c.taps * c.k);
}

void RunF32(benchmark::State& state, const KernelSet* set, TileCase c) {
  const int64_t nr = set->f32.nr;
  const auto x = RandomBuffer<float>((c.taps + c.m) * c.k, -2, 2), panel = RandomBuffer<float>(c.taps * c.k * nr, -2, 2);
  const auto bias = RandomBuffer<float>(nr, -3, 3);
  const std::vector<const float*> pointers = RowPointers(x.data(), c);
  AlignedBuffer<float> out(static_cast<size_t>(c.m * nr));
  kernels::TileF32 t = {};
  t.a = pointers.data();
  t.taps = static_cast<uint32_t>(c.taps);
  t.k = static_cast<uint32_t>(c.k);
  t.n = static_cast<uint32_t>(c.n);
  t.w = panel.data();
  t.bias = bias.data();
  t.act_hi = 6;
  t.out = out.data();
  t.out_stride = static_cast<size_t>(nr);
  for (auto _ : state) {
    set->f32_tile[c.m - 1](t);
    benchmark::ClobberMemory();
  }
  ReportMacs(state, set->isa, Product::kF32, c.m * c.n * c.taps * c.k);
}

// Tiles of every height at one depth, then of several depths at the full height, then of half a panel.
std::vector<TileCase> Cases(const kernels::TileShape& tile) {
  std::vector<TileCase> cases;
  for (int m = 1; m <= tile.mr; ++m) cases.push_back({m, tile.nr, 9, 64});
  for (int64_t k : {64, 256, 512, 2048}) cases.push_back({tile.mr, tile.nr, 1, k});
  for (int64_t k : {16, 128, 512}) cases.push_back({tile.mr, tile.nr, 9, k});
  cases.push_back({tile.mr, tile.nr, 1, 147});
  cases.push_back({tile.mr, tile.nr / 2, 9, 16});
  return cases;
}

}  // namespace

void RegisterTiles() {
  for (Isa isa : BenchedIsas()) {
    const KernelSet* set = kernels::GetKernelSet(isa);
    const auto name = [&](const char* product, const TileCase& c) {
      return std::string("tile/") + product + "/" + IsaName(isa) + "/m" + std::to_string(c.m) + "/n" + std::to_string(c.n) + "/taps" +
             std::to_string(c.taps) + "/k" + std::to_string(c.k);
    };
    for (const TileCase& c : Cases(set->u8s8)) benchmark::RegisterBenchmark(name("u8s8", c).c_str(), RunU8S8, set, c);
    for (const TileCase& c : Cases(set->f32)) benchmark::RegisterBenchmark(name("f32", c).c_str(), RunF32, set, c);
  }
}

}  // namespace pqi::bench
