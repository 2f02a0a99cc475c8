// Elementwise kernels on operands that stay in L2: elementwise/<isa>/<kernel>, elements per second. The reference is among the sets, so
// that a figure can be read as a ratio to plain C++.
#include <limits>
#include <utility>

#include "bench/common.h"
#include "kernels/contract/elementwise.h"
#include "kernels/contract/output.h"
#include "kernels/kernel_set.h"

namespace pqi::bench {
namespace {

using kernels::BinaryFunction;
using kernels::BinaryOperand;
using kernels::KernelSet;
using kernels::Output;
using kernels::Unary;
using kernels::UnaryFunction;

constexpr size_t kRows = 196, kChannels = 96, kElements = kRows * kChannels;

Output FloatResult() {
  Output o;
  o.act_lo = -std::numeric_limits<float>::infinity();
  o.act_hi = std::numeric_limits<float>::infinity();
  o.f32 = true;
  return o;
}

template <typename Fn>
void Measure(benchmark::State& state, Fn&& fn) {
  for (auto _ : state) {
    fn();
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kElements));
}

void RunUnary(benchmark::State& state, const KernelSet* set, UnaryFunction f) {
  const auto x = RandomBuffer<float>(kElements, -6, 6);
  AlignedBuffer<float> y(kElements);
  Measure(state, [&] { set->unary(x.data(), kElements, Unary{f, 0.1f}, FloatResult(), y.data()); });
}

// The product of x (codes or floats) and a gate per channel, which squeeze and excitation computes.
void RunGate(benchmark::State& state, const KernelSet* set, bool codes) {
  const auto x = RandomBuffer<float>(kElements, -6, 6), gate = RandomBuffer<float>(kChannels, 0, 1);
  const auto q = RandomBuffer<uint8_t>(kElements, 0, 255);
  AlignedBuffer<float> y(kElements);
  BinaryOperand a, b;
  if (codes) {
    a.u8 = q.data();
    a.affine = {128, 0.02f};
  } else {
    a.f32 = x.data();
  }
  a.row_step = kChannels;
  b.f32 = gate.data();
  Output o = FloatResult();
  o.f32 = !codes;
  Measure(state, [&] { set->binary(BinaryFunction::kMul, a, b, kRows, kChannels, o, y.data()); });
}

void RunPrelu(benchmark::State& state, const KernelSet* set) {
  const auto x = RandomBuffer<float>(kElements, -6, 6), slope = RandomBuffer<float>(kChannels, 0, 1);
  AlignedBuffer<float> y(kElements);
  Measure(state, [&] { set->prelu(x.data(), y.data(), kRows, kChannels, slope.data()); });
}

void RunAffine(benchmark::State& state, const KernelSet* set) {
  const auto x = RandomBuffer<float>(kElements, -6, 6), scale = RandomBuffer<float>(kChannels, 0, 1);
  AlignedBuffer<float> y(kElements);
  Measure(state, [&] { set->affine(x.data(), y.data(), kRows, kChannels, scale.data(), scale.data()); });
}

void RunTable(benchmark::State& state, const KernelSet* set) {
  const auto x = RandomBuffer<uint8_t>(kElements, 0, 255), table = RandomBuffer<uint8_t>(256, 0, 255);
  AlignedBuffer<uint8_t> y(kElements);
  Measure(state, [&] { set->table(x.data(), y.data(), kElements, table.data()); });
}

}  // namespace

void RegisterElementwise() {
  std::vector<Isa> isas = BenchedIsas();
  isas.insert(isas.begin(), Isa::kReference);
  for (Isa isa : isas) {
    const KernelSet* set = kernels::GetKernelSet(isa);
    const std::string prefix = std::string("elementwise/") + IsaName(isa) + "/";
    const std::pair<const char*, UnaryFunction> functions[] = {{"exp", UnaryFunction::kExp},   {"sigmoid", UnaryFunction::kSigmoid},
                                                               {"tanh", UnaryFunction::kTanh}, {"silu", UnaryFunction::kSilu},
                                                               {"gelu", UnaryFunction::kGelu}, {"gelu_tanh", UnaryFunction::kGeluTanh}};
    for (const auto& [name, f] : functions) benchmark::RegisterBenchmark((prefix + name).c_str(), RunUnary, set, f);
    benchmark::RegisterBenchmark((prefix + "binary_floats").c_str(), RunGate, set, false);
    benchmark::RegisterBenchmark((prefix + "binary_codes").c_str(), RunGate, set, true);
    benchmark::RegisterBenchmark((prefix + "prelu").c_str(), RunPrelu, set);
    benchmark::RegisterBenchmark((prefix + "affine").c_str(), RunAffine, set);
    benchmark::RegisterBenchmark((prefix + "table").c_str(), RunTable, set);
  }
}

}  // namespace pqi::bench
