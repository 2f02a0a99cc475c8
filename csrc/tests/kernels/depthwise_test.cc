// Depthwise kernels equal the plain reference on one pixel, for every number of channels.
#include "kernels/reference/conv.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/guarded.h"

namespace pqi::test {
namespace {

template <typename T>
std::vector<T> Padded(const std::vector<T>& v) {
  std::vector<T> padded = v;
  padded.resize((v.size() + kernels::kDepthwisePad - 1) / kernels::kDepthwisePad * kernels::kDepthwisePad);
  return padded;
}

// Weights [channels][taps] in the order of a depthwise kernel, [taps][padded channels].
template <typename T>
std::vector<T> Transposed(const std::vector<T>& w, size_t channels, size_t taps) {
  const size_t padded = Padded(std::vector<T>(channels)).size();
  std::vector<T> out(taps * padded);
  for (size_t c = 0; c < channels; ++c) {
    for (size_t t = 0; t < taps; ++t) out[t * padded + c] = w[c * taps + t];
  }
  return out;
}

kernels::ConvShape PixelShape(int64_t channels, int64_t taps) {
  kernels::ConvShape s;
  s.c = s.oc = s.groups = channels;
  s.w = s.kw = taps;
  return s;
}

class DepthwiseTest : public KernelTest {
 protected:
  Random random{1};
};

TEST_P(DepthwiseTest, CodesEqualReference) {
  for (int64_t channels = 1; channels <= 70; ++channels) {
    for (const kernels::Output& output : Outputs(0.02f)) {
      const int64_t taps = random.Pick(std::vector<int64_t>{1, 9, 25});
      const auto place = random.Coin() ? GuardedBytes::kAtEnd : GuardedBytes::kAtBegin;
      const Guarded<uint8_t> x(random.Ints<uint8_t>(channels * taps, 0, 255), place);
      const std::vector<int8_t> codes = random.Ints<int8_t>(channels * taps, -128, 127);
      const std::vector<float> scale = random.Floats(channels, 1e-4f, 1e-3f), bias = random.Floats(channels, -3, 3);
      const std::vector<int32_t> base = random.Ints<int32_t>(channels, -20, 20);
      const Guarded<uint8_t> residual(random.Ints<uint8_t>(channels, 0, 255), place);
      kernels::reference::ConvU8 conv;
      conv.shape = PixelShape(channels, taps);
      conv.x = x.data();
      conv.zero_point = static_cast<int32_t>(random.Int(0, 255));
      conv.codes = codes.data();
      conv.step = static_cast<int32_t>(random.Int(1, 2));
      conv.base = random.Coin() ? base.data() : nullptr;
      conv.scale = scale.data();
      conv.bias = random.Coin() ? bias.data() : nullptr;
      if (random.Coin()) conv.residual.u8 = residual.data();
      conv.residual.scale = 0.01f;
      conv.output = output;
      const size_t bytes = static_cast<size_t>(channels) * (output.f32 ? 4 : 1);
      const Guarded<uint8_t> got(bytes, place), want(bytes, place);
      conv.y = want.data();
      conv.y_stride = static_cast<size_t>(conv.shape.oc);
      kernels::reference::Conv2dU8(conv, 0, 1);

      const size_t n = static_cast<size_t>(channels), t = static_cast<size_t>(taps);
      std::vector<int32_t> init(n);
      for (size_t c = 0; c < n; ++c) {
        for (size_t i = 0; i < t; ++i) init[c] -= conv.zero_point * codes[c * t + i];
      }
      std::vector<const uint8_t*> pointers;
      for (size_t i = 0; i < t; ++i) pointers.push_back(x.data() + i * n);
      const Guarded<int8_t> w_g(Transposed(codes, n, t), place);
      const Guarded<int32_t> init_g(Padded(init), place), base_g(Padded(base), place);
      const Guarded<float> scale_g(Padded(scale), place), bias_g(Padded(bias), place);
      kernels::DepthwiseU8S8 d = {};
      d.a = pointers.data();
      d.taps = static_cast<uint32_t>(taps);
      d.n = static_cast<uint32_t>(channels);
      d.w = w_g.data();
      d.init = init_g.data();
      d.scale = scale_g.data();
      d.bias = conv.bias != nullptr ? bias_g.data() : nullptr;
      d.base = conv.base != nullptr ? base_g.data() : nullptr;
      d.step = conv.step;
      d.zero_point = conv.zero_point;
      d.residual = conv.residual;
      d.output = output;
      d.out = got.data();
      set->u8s8_depthwise(d);
      EXPECT_EQ(FirstDifference(got.data(), want.data(), bytes), -1) << channels << " channels, " << taps << " taps";
    }
  }
}

TEST_P(DepthwiseTest, FloatsEqualFmaChains) {
  for (int64_t channels = 1; channels <= 70; ++channels) {
    const int64_t taps = random.Pick(std::vector<int64_t>{1, 9, 25});
    const auto place = random.Coin() ? GuardedBytes::kAtEnd : GuardedBytes::kAtBegin;
    const Guarded<float> x(random.Floats(channels * taps, -2, 2), place), residual(random.Floats(channels, -2, 2), place);
    const std::vector<float> weights = random.Floats(channels * taps, -2, 2), bias = random.Floats(channels, -3, 3);
    const size_t n = static_cast<size_t>(channels), t = static_cast<size_t>(taps);
    const Guarded<float> got(n, place), want(n, place);
    kernels::reference::ConvF32 conv;
    conv.shape = PixelShape(channels, taps);
    conv.x = x.data();
    conv.weights = weights.data();
    conv.bias = random.Coin() ? bias.data() : nullptr;
    if (random.Coin()) conv.residual.f32 = residual.data();
    conv.act_lo = random.Coin() ? 0 : -kInf;
    conv.act_hi = random.Coin() ? 3 : kInf;
    conv.y = want.data();
    conv.y_stride = static_cast<size_t>(conv.shape.oc);
    kernels::reference::Conv2dF32(conv, 0, 1);

    std::vector<const float*> pointers;
    for (size_t i = 0; i < t; ++i) pointers.push_back(x.data() + i * n);
    const Guarded<float> w_g(Transposed(weights, n, t), place), bias_g(Padded(bias), place);
    kernels::DepthwiseF32 d = {};
    d.a = pointers.data();
    d.taps = static_cast<uint32_t>(taps);
    d.n = static_cast<uint32_t>(channels);
    d.w = w_g.data();
    d.bias = conv.bias != nullptr ? bias_g.data() : nullptr;
    d.residual = conv.residual;
    d.act_lo = conv.act_lo;
    d.act_hi = conv.act_hi;
    d.out = got.data();
    set->f32_depthwise(d);
    EXPECT_EQ(FirstDifference(got.data(), want.data(), n), -1) << channels << " channels, " << taps << " taps";
  }
}

PQI_INSTANTIATE(DepthwiseTest);

}  // namespace
}  // namespace pqi::test
