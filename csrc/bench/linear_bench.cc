// Linear layers on one thread: linear/<static|dynamic|groups of k-values>/<isa>/<rows>x<inputs>x<outputs>. The dynamic ones read floats and
// quantize their rows, the static one reads codes; all write floats. linear/bits<2|4>/... have weights of so many bits that stay packed;
// linear/read/<inputs>x<outputs> reads as many bytes as int4 codes in groups of 32 and their scales have, and does nothing else.
#include <limits>

#include "bench/common.h"
#include "conv/packed_conv.h"
#include "kernels/contract/output.h"
#include "kernels/kernel_set.h"
#include "linear/dynamic.h"

namespace pqi::bench {
namespace {

using kernels::KernelSet;

struct Size {
  int64_t rows, inputs, outputs;
};

kernels::Output Floats() {
  kernels::Output o;
  o.act_lo = 0;
  o.act_hi = std::numeric_limits<float>::infinity();
  o.f32 = true;
  return o;
}

void Report(benchmark::State& state, const KernelSet* set, const Size& s) {
  ReportMacs(state, set->isa, Product::kU8S8, s.rows * s.inputs * s.outputs);
}
// With one row every weight is read once, so that the figure can be compared with the bandwidth of memory.
void ReportBytes(benchmark::State& state, const Size& s, size_t bytes) {
  if (s.rows == 1) state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(bytes));
}

void RunStatic(benchmark::State& state, const KernelSet* set, Size s) {
  kernels::ConvShape shape;
  shape.n = s.rows;
  shape.c = s.inputs;
  shape.oc = s.outputs;
  const auto x = RandomBuffer<uint8_t>(s.rows * s.inputs, 0, 255);
  const auto codes = RandomBuffer<int8_t>(s.inputs * s.outputs, -128, 127);
  const auto scale = RandomBuffer<float>(s.outputs, 1, 1), bias = RandomBuffer<float>(s.outputs, -3, 3);
  AlignedBuffer<float> y(static_cast<size_t>(s.rows * s.outputs));
  pack::WeightsU8 weights;
  weights.codes = codes.data();
  weights.scale = scale.data();
  weights.bias = bias.data();
  weights.zero_point = 128;
  const conv::PackedConvU8 packed(*set, shape, weights);
  AlignedBuffer<uint8_t> scratch(packed.ScratchBytes(shape));
  conv::ConvRun<uint8_t> run;
  run.shape = shape;
  run.x = x.data();
  run.output = Floats();
  run.y = y.data();
  for (auto _ : state) {
    packed.Run(run, {0, s.rows, 0, packed.layout().panels}, scratch.data());
    benchmark::ClobberMemory();
  }
  Report(state, set, s);
  ReportBytes(state, s, packed.WeightBytes());
}

// Reads memory and adds it up in eight independent chains, which the compiler vectorizes.
void RunRead(benchmark::State& state, Size s) {
  const size_t words = static_cast<size_t>(s.inputs * s.outputs * 5 / 8) / sizeof(uint64_t);
  AlignedBuffer<uint64_t> memory(words);
  for (size_t i = 0; i < words; ++i) memory[i] = i;
  for (auto _ : state) {
    uint64_t sum[8] = {};
    const uint64_t* p = memory.data();
    for (size_t i = 0; i + 8 <= words; i += 8) {
      for (size_t j = 0; j < 8; ++j) sum[j] ^= p[i + j];
    }
    benchmark::DoNotOptimize(sum);
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(words * sizeof(uint64_t)));
}

void RunDynamic(benchmark::State& state, const KernelSet* set, Size s, int64_t group, int bits) {
  const int64_t groups = group == 0 ? 1 : s.inputs / group;
  const auto x = RandomBuffer<float>(s.rows * s.inputs, -9, 9);
  const auto codes = RandomBuffer<int8_t>(s.inputs * s.outputs, -(1 << (bits - 1)), (1 << (bits - 1)) - 1);
  const auto scale = RandomBuffer<float>(s.outputs * groups, 1, 1), bias = RandomBuffer<float>(s.outputs, -3, 3);
  AlignedBuffer<float> y(static_cast<size_t>(s.rows * s.outputs));
  const kernels::reference::DynamicLinear layer = {s.inputs, s.outputs, groups, codes.data(), 1, scale.data(), nullptr, bias.data()};
  const kernels::RowQuantizer quantizer = {false, 0, 255, std::numeric_limits<float>::epsilon()};
  const linear::PackedLinearDynamic packed(*set, layer, quantizer);
  AlignedBuffer<uint8_t> scratch(packed.ScratchBytes());
  linear::DynamicRun run;
  run.x = x.data();
  run.output = Floats();
  run.y = y.data();
  for (auto _ : state) {
    packed.Run(run, {0, s.rows, 0, packed.panels()}, scratch.data());
    benchmark::ClobberMemory();
  }
  Report(state, set, s);
  ReportBytes(state, s, packed.bytes());
}

}  // namespace

// Shapes of layers of large language models.
void RegisterPacked(const KernelSet* set) {
  for (const int64_t outputs : {4096, 14336}) {
    for (const int64_t rows : {1, 2, 4, 8, 16, 32, 128, 512}) {
      const Size s = {rows, 4096, outputs};
      const std::string suffix = std::string("/") + IsaName(set->isa) + "/" + std::to_string(rows) + "x4096x" + std::to_string(outputs);
      const auto add = [&](const std::string& name, int64_t group, int bits) {
        benchmark::RegisterBenchmark(("linear/" + name + suffix).c_str(), RunDynamic, set, s, group, bits)->Unit(benchmark::kMicrosecond);
      };
      for (const int64_t group : {32, 64, 128}) add("bits4/groups_of_" + std::to_string(group), group, 4);
      add("bits4/one_group", 0, 4);
      add("bits2/one_group", 0, 2);
    }
  }
}

void RegisterLinears() {
  for (const int64_t outputs : {4096, 14336}) {
    const std::string name = "linear/read/4096x" + std::to_string(outputs);
    benchmark::RegisterBenchmark(name.c_str(), RunRead, Size{1, 4096, outputs})->Unit(benchmark::kMicrosecond);
  }
  for (Isa isa : BenchedIsas()) {
    const KernelSet* set = kernels::GetKernelSet(isa);
    RegisterPacked(set);
    for (const Size& s : {Size{1, 4096, 4096}, Size{1, 1024, 1024}, Size{16, 512, 1000}, Size{16, 1024, 1024}, Size{128, 1024, 1024}}) {
      const std::string suffix =
          std::string("/") + IsaName(isa) + "/" + std::to_string(s.rows) + "x" + std::to_string(s.inputs) + "x" + std::to_string(s.outputs);
      benchmark::RegisterBenchmark(("linear/static" + suffix).c_str(), RunStatic, set, s)->Unit(benchmark::kMicrosecond);
      benchmark::RegisterBenchmark(("linear/dynamic" + suffix).c_str(), RunDynamic, set, s, 0, 8)->Unit(benchmark::kMicrosecond);
      for (int64_t group : {128, 32}) {
        const std::string name = "linear/groups_of_" + std::to_string(group) + suffix;
        benchmark::RegisterBenchmark(name.c_str(), RunDynamic, set, s, group, 8)->Unit(benchmark::kMicrosecond);
      }
    }
  }
}

}  // namespace pqi::bench
