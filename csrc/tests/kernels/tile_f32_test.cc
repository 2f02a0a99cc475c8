// Every float tile kernel gives the bits of one std::fma chain per output, for all inputs that a float can be.
#include "kernels/reference/conv.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/guarded.h"

namespace pqi::test {
namespace {

struct Case {
  int64_t m = 1, n = 1, taps = 1, k = 1;
  bool bias = false, residual = false;
  float lo = -kInf, hi = kInf;
  std::vector<float> x;  // [m][taps][k]; random where empty
};

class TileF32Test : public KernelTest {
 protected:
  void Check(Case c, Random* random) {
    const kernels::TileShape tile = set->f32;
    if (c.x.empty()) c.x = random->Floats(c.m * c.taps * c.k, -2, 2);
    const size_t m = static_cast<size_t>(c.m), n = static_cast<size_t>(c.n), taps = static_cast<size_t>(c.taps),
                 k = static_cast<size_t>(c.k);
    const size_t nr = static_cast<size_t>(tile.nr), stride = n + static_cast<size_t>(random->Int(0, 5));
    const auto place = random->Coin() ? GuardedBytes::kAtEnd : GuardedBytes::kAtBegin;
    const std::vector<float> weights = random->Floats(c.n * c.taps * c.k, -2, 2), bias = random->Floats(tile.nr, -3, 3);
    const std::vector<float> residual = random->Floats(static_cast<int64_t>((m - 1) * stride + n), -5, 5);

    kernels::reference::ConvF32 conv;
    conv.shape.n = c.m;
    conv.shape.w = conv.shape.kw = c.taps;
    conv.shape.c = c.k;
    conv.shape.oc = c.n;
    conv.x = c.x.data();
    conv.weights = weights.data();
    conv.bias = c.bias ? bias.data() : nullptr;
    conv.residual.f32 = c.residual ? residual.data() : nullptr;
    conv.residual.stride = stride;
    conv.act_lo = c.lo;
    conv.act_hi = c.hi;
    std::vector<float> dense(m * n);
    conv.y = dense.data();
    conv.y_stride = static_cast<size_t>(conv.shape.oc);
    kernels::reference::Conv2dF32(conv, 0, c.m);
    const Guarded<float> want((m - 1) * stride + n);
    for (size_t i = 0; i < m; ++i) std::memcpy(want.data() + i * stride, dense.data() + i * n, n * sizeof(float));

    const Guarded<float> x(c.x, place), bias_g(bias, place), residual_g(residual, place), out(want.size(), place);
    const Guarded<float> w(taps * k * nr, place);
    std::memset(w.data(), 0, w.size() * sizeof(float));
    const bool even = random->Coin();  // one pointer per row serves all taps (TileF32::tap_step)
    std::vector<const float*> pointers(even ? m : m * taps);
    for (size_t t = 0; t < taps; ++t) {
      for (size_t i = 0; i < m && (!even || t == 0); ++i) pointers[t * m + i] = x.data() + (i * taps + t) * k;
      for (size_t i = 0; i < k; ++i) {
        for (size_t j = 0; j < n; ++j) w[(t * k + i) * nr + j] = weights[(j * taps + t) * k + i];
      }
    }
    const Guarded<const float*> a(pointers, place);
    kernels::TileF32 t = {};
    t.a = a.data();
    t.tap_step = even ? k : 0;
    t.taps = static_cast<uint32_t>(c.taps);
    t.k = static_cast<uint32_t>(c.k);
    t.n = static_cast<uint32_t>(c.n);
    t.w = w.data();
    t.bias = c.bias ? bias_g.data() : nullptr;
    t.residual = conv.residual;
    t.residual.f32 = c.residual ? residual_g.data() : nullptr;
    t.act_lo = c.lo;
    t.act_hi = c.hi;
    t.out = out.data();
    t.out_stride = stride;
    set->f32_tile[c.m - 1](t);
    EXPECT_EQ(FirstDifference(out.data(), want.data(), want.size()), -1)
        << "m=" << c.m << " n=" << c.n << " taps=" << c.taps << " k=" << c.k << " even=" << even << " bias=" << c.bias
        << " residual=" << c.residual;
  }

  Case RandomCase(Random* random) {
    Case c;
    c.m = random->Int(1, set->f32.mr);
    c.n = random->Int(1, set->f32.nr);
    c.taps = random->Pick(std::vector<int64_t>{1, 3, 9});
    c.k = random->Int(1, 67);
    c.bias = random->Coin();
    c.residual = random->Coin();
    if (random->Coin()) c.lo = 0;
    if (random->Int(0, 3) == 0) c.hi = 6;
    return c;
  }
};

TEST_P(TileF32Test, EqualsFmaChainForEveryHeightAndWidth) {
  Random random(1);
  for (int64_t m = 1; m <= set->f32.mr; ++m) {
    for (int64_t n = 1; n <= set->f32.nr; ++n) {
      Case c = RandomCase(&random);
      c.m = m;
      c.n = n;
      Check(c, &random);
    }
  }
}

TEST_P(TileF32Test, EqualsFmaChainForEveryDepth) {
  Random random(2);
  for (int64_t k = 1; k <= 67; ++k) {
    Case c = RandomCase(&random);
    c.k = k;
    Check(c, &random);
  }
  for (int64_t k : {127, 128, 129, 511, 512, 513}) {
    Case c = RandomCase(&random);
    c.k = k;
    c.taps = 1;
    Check(c, &random);
  }
}

TEST_P(TileF32Test, PassesSpecialValuesThrough) {
  const std::vector<float> specials = {kNan, kInf, -kInf, 0.0f, -0.0f, 1e-45f, -1e-40f, 3e38f, -3e38f, 1.0f};
  Random random(3);
  for (int i = 0; i < 300; ++i) {
    Case c = RandomCase(&random);
    c.k = random.Int(1, 9);
    c.x.resize(static_cast<size_t>(c.m * c.taps * c.k));
    // One special value among ordinary ones, so that not every output is NaN.
    for (float& x : c.x) x = random.Int(0, 40) == 0 ? random.Pick(specials) : random.Float(-2, 2);
    Check(c, &random);
  }
}

PQI_INSTANTIATE(TileF32Test);

}  // namespace
}  // namespace pqi::test
