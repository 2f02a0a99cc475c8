// Low-bit layers by every algorithm that is exact for them, one thread, relu and requantization included:
// lowbit/<isa>/<algorithm>/w<weight bits>a<activation bits>[z<percent of zeros>]/<layer>. Rows with zeros take turns among several layers
// with weights of their own, as in a network, so that nothing learns the places of the zeros. GMAC/s count the multiplications of a direct
// convolution, and of_peak is their share of the dot-product peak, so Winograd and inner products can pass 1. The costs of
// csrc/plan/cost.cc are fitted to these rows.
#include <algorithm>
#include <limits>

#include "bench/common.h"
#include "conv/packed_conv.h"
#include "kernels/kernel_set.h"

namespace pqi::bench {
namespace {

using conv::Algorithm;
using kernels::ConvShape;
using kernels::KernelSet;
using Mode = conv::Product;

struct Layer {
  const char* name;
  int64_t size, c, oc, k;
};
constexpr Layer kLayers[] = {
    {"56x56x64.3x3", 56, 64, 64, 3},      {"28x28x128.3x3", 28, 128, 128, 3}, {"14x14x256.3x3", 14, 256, 256, 3},
    {"7x7x512.3x3", 7, 512, 512, 3},      {"32x32x16.3x3", 32, 16, 16, 3},    {"16x16x32.3x3", 16, 32, 32, 3},
    {"56x56x64-256.1x1", 56, 64, 256, 1}, {"14x14x256.1x1", 14, 256, 256, 1}, {"14x14x1024-256.1x1", 14, 1024, 256, 1}};

struct Bits {
  const char* name;
  int act_max, code_max;
  double zeros = 0;  // share of the weights that are pruned; those that are random zeros come on top
};
constexpr Bits kBits[] = {{"w4a4", 15, 7},
                          {"wta4", 15, 1},
                          {"w4a6", 63, 7},
                          {"w4a7", 127, 7},
                          {"wta7", 127, 1},
                          {"w6a6", 63, 31},
                          {"w6a7", 127, 31},
                          {"w4a8", 255, 7},
                          {"w8a8", 255, 127},
                          {"wta4z50", 15, 1, 0.25},
                          {"wta4z80", 15, 1, 0.7},
                          {"wta4z89", 15, 1, 0.8335},
                          {"wta4z95", 15, 1, 0.925},
                          {"wta6z89", 63, 1, 0.8335},
                          {"wta8z50", 255, 1, 0.25},
                          {"wta8z80", 255, 1, 0.7},
                          {"wta8z89", 255, 1, 0.8335},
                          {"wta8z95", 255, 1, 0.925}};

constexpr int kTurns = 8;

struct Candidate {
  const char* name;
  Algorithm algorithm;
};

// The algorithms that are exact for these bits, by the conditions of csrc/conv/exact.h for the largest codes.
std::vector<Candidate> Candidates(const KernelSet& set, const Bits& bits, int64_t k) {
  std::vector<Candidate> out = {{"direct", {}}};
  if (bits.zeros > 0 && set.sparse_positions > 0) out.push_back({"sparse", {&conv::kSparseMethod, nullptr, Mode::kDot, 0}});
  const auto depth = [](int act, int code) { return static_cast<uint32_t>(32767 / (2 * act * code)); };
  const bool winograd_1d = k == 3 && set.winograd_1d.input != nullptr && bits.act_max < 128 && bits.code_max <= 42;
  const bool winograd_1d4 = k == 3 && set.winograd_1d4.input != nullptr && bits.act_max <= 25 && bits.code_max <= 18;
  const bool winograd_2d = k == 3 && set.winograd_2d.input != nullptr && bits.act_max < 64 && bits.code_max <= 14;
  const bool inner_product = set.u8s8_inner_product.shape.mr > 0, deferred = set.u8s8_deferred.shape.mr > 0;
  if (inner_product && bits.act_max + 2 * bits.code_max <= 255) out.push_back({"fip", {nullptr, nullptr, Mode::kInnerProduct, 0}});
  if (deferred && bits.code_max <= 64) out.push_back({"deferred", {nullptr, nullptr, Mode::kDeferred, depth(bits.act_max, bits.code_max)}});
  if (winograd_1d) {
    const uint32_t sums = depth(2 * bits.act_max, 3 * bits.code_max);
    out.push_back({"winograd_1d", {nullptr, &conv::kWinograd1d, Mode::kDot, 0}});
    if (deferred && sums > 0) out.push_back({"winograd_1d_deferred", {nullptr, &conv::kWinograd1d, Mode::kDeferred, sums}});
  }
  if (winograd_1d4) {
    const uint32_t sums = depth(6 * bits.act_max, 7 * bits.code_max);  // bounds positions 3 and 4; others have at most 10 and 3
    out.push_back({"winograd_1d4", {nullptr, &conv::kWinograd1d4, Mode::kDot, 0}});
    if (deferred && sums > 0) out.push_back({"winograd_1d4_deferred", {nullptr, &conv::kWinograd1d4, Mode::kDeferred, sums}});
  }
  if (k == 3 && set.winograd_4x4.input != nullptr && bits.act_max <= 15 && bits.code_max <= 7) {
    out.push_back({"winograd_4x4", {nullptr, &conv::kWinograd4x4, Mode::kDot, 0}});
    if (deferred)
      out.push_back(
          {"winograd_4x4_deferred", {nullptr, &conv::kWinograd4x4, Mode::kDeferred, depth(16 * bits.act_max, 9 * bits.code_max)}});
  }
  if (!winograd_2d) return out;
  out.push_back({"winograd", {nullptr, &conv::kWinograd2d, Mode::kDot, 0}});
  if (inner_product) out.push_back({"winograd_fip", {nullptr, &conv::kWinograd2d, Mode::kInnerProduct, 0}});
  if (deferred)
    out.push_back({"winograd_deferred", {nullptr, &conv::kWinograd2d, Mode::kDeferred, depth(4 * bits.act_max, 9 * bits.code_max)}});
  return out;
}

void RunLayer(benchmark::State& state, const KernelSet* set, Layer layer, Bits bits, Algorithm algorithm) {
  ConvShape s;
  s.h = s.w = layer.size;
  s.c = layer.c;
  s.oc = layer.oc;
  s.kh = s.kw = layer.k;
  s.pad_top = s.pad_left = s.pad_bottom = s.pad_right = layer.k / 2;
  const auto x = RandomBuffer<uint8_t>(s.h * s.w * s.c, 0, bits.act_max);
  auto codes = RandomBuffer<int8_t>(s.oc * s.taps() * s.c, -bits.code_max, bits.code_max);
  const auto scale = RandomBuffer<float>(s.oc, 1, 1), bias = RandomBuffer<float>(s.oc, -3, 3);
  AlignedBuffer<uint8_t> y(static_cast<size_t>(s.rows() * s.oc));
  pack::WeightsU8 weights;
  weights.codes = codes.data();
  weights.scale = scale.data();
  weights.bias = bias.data();
  weights.qmax = bits.act_max;
  std::minstd_rand engine(2);
  std::vector<conv::PackedConvU8> layers;
  for (int i = 0; i < (bits.zeros > 0 ? kTurns : 1); ++i) {
    if (i > 0) std::shuffle(codes.begin(), codes.end(), engine);
    AlignedBuffer<int8_t> pruned = AlignedBuffer<int8_t>::CopyOf({codes.data(), codes.size()});
    for (int8_t& code : pruned) {
      if (static_cast<double>(engine()) < bits.zeros * static_cast<double>(std::minstd_rand::max())) code = 0;
    }
    weights.codes = pruned.data();
    layers.emplace_back(*set, s, weights, algorithm);
  }
  const conv::PackedConvU8& first = layers[0];
  size_t scratch_bytes = 0;
  for (const conv::PackedConvU8& packed : layers) scratch_bytes = std::max(scratch_bytes, packed.ScratchBytes(s));
  AlignedBuffer<uint8_t> scratch(scratch_bytes);
  conv::ConvRun<uint8_t> run;
  run.shape = s;
  run.x = x.data();
  run.output.act_hi = std::numeric_limits<float>::infinity();
  run.y = y.data();
  run.y_stride = static_cast<size_t>(s.oc);
  const conv::ConvPart whole = {0, first.OutputWork(s).rows, 0, first.layout().panels};
  size_t turn = 0;
  for (auto _ : state) {
    layers[turn].Run(run, {0, layers[turn].OutputWork(s).rows, 0, whole.panel_end}, scratch.data());
    turn = (turn + 1) % layers.size();
    benchmark::ClobberMemory();
  }
  ReportMacs(state, set->isa, Product::kU8S8, s.rows() * s.oc * s.taps() * s.c);
}

}  // namespace

void RegisterLowBit() {
  for (Isa isa : BenchedIsas()) {
    const KernelSet* set = kernels::GetKernelSet(isa);
    for (const Layer& layer : kLayers) {
      for (const Bits& bits : kBits) {
        for (const Candidate& c : Candidates(*set, bits, layer.k)) {
          const std::string name = std::string("lowbit/") + IsaName(isa) + "/" + c.name + "/" + bits.name + "/" + layer.name;
          benchmark::RegisterBenchmark(name.c_str(), RunLayer, set, layer, bits, c.algorithm)->Unit(benchmark::kMicrosecond);
        }
      }
    }
  }
}

}  // namespace pqi::bench
