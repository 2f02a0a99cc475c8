// Max pools of codes on one thread: pool/<isa>/<shape>.
#include "bench/common.h"
#include "kernels/shapes.h"
#include "ops/max_pool_codes.h"

namespace pqi::bench {
namespace {

using kernels::KernelSet;
using kernels::PoolShape;

PoolShape Square(int64_t size, int64_t c, int64_t kernel, int64_t stride) {
  PoolShape s;
  s.h = s.w = size;
  s.c = c;
  s.kh = s.kw = kernel;
  s.stride_h = s.stride_w = stride;
  s.pad_top = s.pad_left = stride == kernel ? 0 : kernel / 2;
  s.out_h = s.out_w = (size + 2 * s.pad_top - kernel) / stride + 1;
  return s;
}

void RunMaxPool(benchmark::State& state, const KernelSet* set, const PoolShape& s) {
  const auto x = RandomBuffer<uint8_t>(s.h * s.w * s.c, 0, 255);
  AlignedBuffer<uint8_t> y(static_cast<size_t>(s.rows() * s.c)), scratch(ops::MaxPoolCodesScratch(s));
  for (auto _ : state) {
    ops::MaxPoolCodes(*set, s, x.data(), y.data(), 0, s.rows(), scratch.data());
    benchmark::ClobberMemory();
  }
}

}  // namespace

void RegisterPools() {
  for (Isa isa : BenchedIsas()) {
    const KernelSet* set = kernels::GetKernelSet(isa);
    const std::string prefix = std::string("pool/") + IsaName(isa) + "/";
    const std::pair<const char*, PoolShape> shapes[] = {{"3x3.s2.112x64", Square(112, 64, 3, 2)},
                                                        {"3x3.s2.28x480", Square(28, 480, 3, 2)},
                                                        {"3x3.s1.28x192", Square(28, 192, 3, 1)},
                                                        {"2x2.s2.112x32", Square(112, 32, 2, 2)},
                                                        {"5x5.s1.20x256", Square(20, 256, 5, 1)}};
    for (const auto& [name, shape] : shapes) {
      benchmark::RegisterBenchmark((prefix + name).c_str(), RunMaxPool, set, shape)->Unit(benchmark::kMicrosecond);
    }
  }
}

}  // namespace pqi::bench
