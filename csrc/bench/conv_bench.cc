// Packed convolutions on the layer shapes of ResNet-18 and MobileNetV2 at 224x224 and of ResNet-20 at 32x32, one thread, relu and
// requantization included: conv/<product>/<isa>/<layer>.
#include <algorithm>
#include <limits>
#include <random>

#include "bench/common.h"
#include "conv/packed_conv.h"
#include "kernels/contract/output.h"
#include "kernels/kernel_set.h"

namespace pqi::bench {
namespace {

using kernels::ConvShape;
using kernels::KernelSet;

struct Layer {
  const char* name;
  ConvShape shape;
};

ConvShape Square(int64_t size, int64_t c, int64_t oc, int64_t k, int64_t stride) {
  ConvShape s;
  s.h = s.w = size;
  s.c = c;
  s.oc = oc;
  s.kh = s.kw = k;
  s.stride_h = s.stride_w = stride;
  s.pad_top = s.pad_left = s.pad_bottom = s.pad_right = k / 2;
  return s;
}

ConvShape Depthwise(int64_t size, int64_t c, int64_t stride, int64_t kernel = 3) {
  ConvShape s = Square(size, c, c, kernel, stride);
  s.groups = c;
  return s;
}

std::vector<Layer> Layers() {
  return {{"resnet18.conv1", Square(224, 3, 64, 7, 2)},
          {"resnet18.layer1.conv", Square(56, 64, 64, 3, 1)},
          {"resnet18.layer2.0.conv1", Square(56, 64, 128, 3, 2)},
          {"resnet18.layer2.0.downsample", Square(56, 64, 128, 1, 2)},
          {"resnet18.layer2.conv", Square(28, 128, 128, 3, 1)},
          {"resnet18.layer3.conv", Square(14, 256, 256, 3, 1)},
          {"resnet18.layer4.conv", Square(7, 512, 512, 3, 1)},
          {"resnet18.fc", Square(1, 512, 1000, 1, 1)},
          {"resnet50.layer1.conv3", Square(56, 64, 256, 1, 1)},
          {"resnet50.layer4.conv1", Square(7, 2048, 512, 1, 1)},
          {"resnet20.conv1", Square(32, 3, 16, 3, 1)},
          {"resnet20.layer1.conv", Square(32, 16, 16, 3, 1)},
          {"resnet20.layer2.conv", Square(16, 32, 32, 3, 1)},
          {"resnet20.layer3.conv", Square(8, 64, 64, 3, 1)},
          {"mobilenet.conv1", Square(224, 3, 32, 3, 2)},
          {"mobilenet.expand", Square(56, 24, 144, 1, 1)},
          {"mobilenet.project", Square(14, 384, 64, 1, 1)},
          {"mobilenet.depthwise.112x32", Depthwise(112, 32, 1)},
          {"mobilenet.depthwise.112x96.s2", Depthwise(112, 96, 2)},
          {"mobilenet.depthwise.56x144", Depthwise(56, 144, 1)},
          {"mobilenet.depthwise.28x192", Depthwise(28, 192, 1)},
          {"mobilenet.depthwise.14x384", Depthwise(14, 384, 1)},
          {"mobilenet.depthwise.14x576.s2", Depthwise(14, 576, 2)},
          {"mobilenet.depthwise.7x960", Depthwise(7, 960, 1)},
          {"mobilenet3.depthwise5.28x120", Depthwise(28, 120, 1, 5)},
          {"mobilenet3.depthwise5.14x480", Depthwise(14, 480, 1, 5)},
          {"mobilenet3.depthwise5.14x672.s2", Depthwise(14, 672, 2, 5)}};
}

int64_t Macs(const ConvShape& s) { return s.rows() * s.oc * s.taps() * s.group_inputs(); }
int64_t WeightCount(const ConvShape& s) { return s.oc * s.taps() * s.group_inputs(); }

kernels::Output ReluOutput() {
  kernels::Output o;
  o.act_lo = 0;
  o.act_hi = std::numeric_limits<float>::infinity();
  return o;
}

template <typename Packed, typename T>
void Run(benchmark::State& state, const KernelSet* set, Product product, const ConvShape& s, const Packed& packed, const T* x, void* y) {
  AlignedBuffer<uint8_t> scratch(packed.ScratchBytes(s));
  conv::ConvRun<T> run;
  run.shape = s;
  run.x = x;
  run.output = ReluOutput();
  run.y = y;
  run.y_stride = static_cast<size_t>(s.oc);
  const conv::ConvPart whole = {0, packed.OutputWork(s).rows, 0, packed.layout().panels};
  for (auto _ : state) {
    packed.Run(run, whole, scratch.data());
    benchmark::ClobberMemory();
  }
  ReportMacs(state, set->isa, product, Macs(s));
}

// Codes like those of trained layers, most of them small: a Laplace distribution whose tail reaches the ends of int8.
AlignedBuffer<int8_t> TrainedCodes(int64_t n) {
  AlignedBuffer<int8_t> codes(static_cast<size_t>(n));
  std::minstd_rand engine(1);
  std::exponential_distribution<float> magnitude(1.0f / 18);
  for (int8_t& c : codes) {
    const float size = std::min(magnitude(engine), 127.0f);
    c = static_cast<int8_t>(engine() % 2 == 0 ? size : -size);
  }
  return codes;
}

void RunU8(benchmark::State& state, const KernelSet* set, ConvShape s) {
  const auto x = RandomBuffer<uint8_t>(s.n * s.h * s.w * s.c, 0, 255);
  const auto codes = TrainedCodes(WeightCount(s));
  const auto scale = RandomBuffer<float>(s.oc, 1, 1), bias = RandomBuffer<float>(s.oc, -3, 3);
  AlignedBuffer<uint8_t> y(static_cast<size_t>(s.rows() * s.oc));
  pack::WeightsU8 weights;
  weights.codes = codes.data();
  weights.scale = scale.data();
  weights.bias = bias.data();
  weights.zero_point = 128;
  Run(state, set, Product::kU8S8, s, conv::PackedConvU8(*set, s, weights), x.data(), y.data());
}

void RunF32(benchmark::State& state, const KernelSet* set, ConvShape s) {
  const auto x = RandomBuffer<float>(s.n * s.h * s.w * s.c, -2, 2), values = RandomBuffer<float>(WeightCount(s), -2, 2);
  const auto bias = RandomBuffer<float>(s.oc, -3, 3);
  AlignedBuffer<float> y(static_cast<size_t>(s.rows() * s.oc));
  Run(state, set, Product::kF32, s, conv::PackedConvF32(*set, s, {values.data(), bias.data()}), x.data(), y.data());
}

}  // namespace

void RegisterConvs() {
  for (Isa isa : BenchedIsas()) {
    const KernelSet* set = kernels::GetKernelSet(isa);
    for (const Layer& layer : Layers()) {
      const std::string suffix = std::string(IsaName(isa)) + "/" + layer.name;
      benchmark::RegisterBenchmark(("conv/u8s8/" + suffix).c_str(), RunU8, set, layer.shape)->Unit(benchmark::kMicrosecond);
      benchmark::RegisterBenchmark(("conv/f32/" + suffix).c_str(), RunF32, set, layer.shape)->Unit(benchmark::kMicrosecond);
    }
  }
}

}  // namespace pqi::bench
