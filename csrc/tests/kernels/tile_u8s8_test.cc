// Every u8 x s8 tile kernel equals the plain reference, reads nothing but its operands and writes nothing but its outputs.
#include <numeric>

#include "tests/kernels/cases.h"
#include "tests/kernels/guarded.h"
#include "tests/kernels/reference_conv.h"

namespace pqi::test {
namespace {

using kernels::Output;
using kernels::TileU8S8;

struct Case {
  int64_t m = 1, n = 1, taps = 1, k = 1;
  int32_t zero_point = 0, step = 1;
  bool bias = false, base = false;
  bool even = false;  // pieces of a row are equally far apart (TileU8S8::tap_step)
  enum Rest { kNone, kU8, kF32 } residual = kNone;
  Output output;
  // Operands; random where empty.
  std::vector<uint8_t> x;     // [m][taps][k]
  std::vector<int8_t> codes;  // [n][taps][k]
};

std::string Describe(const Case& c) {
  return "m=" + std::to_string(c.m) + " n=" + std::to_string(c.n) + " taps=" + std::to_string(c.taps) + " k=" + std::to_string(c.k) +
         " z=" + std::to_string(c.zero_point) + " step=" + std::to_string(c.step) + " bias=" + std::to_string(c.bias) +
         " base=" + std::to_string(c.base) + " even=" + std::to_string(c.even) + " residual=" + std::to_string(c.residual) +
         " f32=" + std::to_string(c.output.f32);
}

// A panel as kernels/contract/tile.h describes it, written from that text and not from the packer.
std::vector<int8_t> Panel(const Case& c, const kernels::TileShape& tile) {
  const int64_t blocks = (c.k + tile.kr - 1) / tile.kr;
  std::vector<int8_t> panel(static_cast<size_t>(c.taps * blocks * tile.nr * tile.kr));
  for (int64_t t = 0; t < c.taps; ++t) {
    for (int64_t b = 0; b < blocks; ++b) {
      for (int64_t j = 0; j < c.n; ++j) {
        const bool again = (b + 1) * tile.kr > c.k && c.k > tile.kr;  // the last block begins with values of the one before
        for (int64_t i = 0; i < tile.kr; ++i) {
          const int64_t at = again ? c.k - tile.kr + i : b * tile.kr + i;
          if (at < b * tile.kr || at >= c.k) continue;
          panel[static_cast<size_t>(((t * blocks + b) * tile.nr + j) * tile.kr + i)] =
              c.codes[static_cast<size_t>((j * c.taps + t) * c.k + at)];
        }
      }
    }
  }
  return panel;
}

class TileU8S8Test : public KernelTest {
 protected:
  // Runs the kernel of height m in guarded memory and compares the whole output buffer, gaps between rows included.
  void Check(Case c, Random* random) {
    const kernels::TileShape tile = set->u8s8;
    if (c.x.empty()) c.x = random->Ints<uint8_t>(c.m * c.taps * c.k, 0, 255);
    if (c.codes.empty()) c.codes = random->Ints<int8_t>(c.n * c.taps * c.k, -128, 127);
    const auto place = random->Coin() ? GuardedBytes::kAtEnd : GuardedBytes::kAtBegin;
    const size_t nr = static_cast<size_t>(tile.nr), m = static_cast<size_t>(c.m), n = static_cast<size_t>(c.n);
    const size_t stride = n + static_cast<size_t>(random->Int(0, 5));

    std::vector<float> scale = random->Floats(tile.nr, 1e-4f, 1e-2f), bias = random->Floats(tile.nr, -3, 3);
    std::vector<int32_t> base = random->Ints<int32_t>(tile.nr, -20, 20), init(nr), box(m);
    if (random->Coin()) scale[0] = -scale[0];  // a folded BatchNorm can make a scale negative
    for (size_t j = 0; j < n; ++j) {
      const auto first = c.codes.begin() + static_cast<ptrdiff_t>(j) * c.taps * c.k;
      init[j] = (set->u8s8_offset - c.zero_point) * std::accumulate(first, first + c.taps * c.k, int32_t{0});
    }
    for (size_t i = 0; i < m; ++i) {
      const auto first = c.x.begin() + static_cast<ptrdiff_t>(i) * c.taps * c.k;
      box[i] = std::accumulate(first, first + c.taps * c.k, int32_t{0}) - static_cast<int32_t>(c.taps * c.k) * c.zero_point;
    }
    const std::vector<uint8_t> residual_u8 = random->Ints<uint8_t>(static_cast<int64_t>((m - 1) * stride + n), 0, 255);
    const std::vector<float> residual_f32 = random->Floats(static_cast<int64_t>((m - 1) * stride + n), -5, 5);

    // For the reference these are m images of one row of `taps` pixels.
    kernels::ConvShape shape;
    shape.n = c.m;
    shape.w = shape.kw = c.taps;
    shape.c = c.k;
    shape.oc = c.n;
    struct Weights {
      int32_t zero_point;
      const int8_t* codes;
      int32_t step;
      const int32_t* base;
      const float *scale, *bias;
    };
    const Weights weights = {
        c.zero_point, c.codes.data(), c.step, c.base ? base.data() : nullptr, scale.data(), c.bias ? bias.data() : nullptr};
    kernels::Residual residual;
    residual.stride = stride;
    residual.zero_point = 7;
    residual.scale = 0.037f;
    if (c.residual == Case::kU8) residual.u8 = residual_u8.data();
    if (c.residual == Case::kF32) residual.f32 = residual_f32.data();
    const std::vector<uint8_t> want = ReferenceOutput(ReferenceConv(shape, c.x.data(), weights, residual, c.output), stride, place);

    // The kernel gets its pieces, or the rows of each tap, in a random order, so that each one lies next to a guard at some time.
    const size_t k = static_cast<size_t>(c.k), taps = static_cast<size_t>(c.taps);
    std::vector<size_t> order(c.even ? m : m * taps);
    std::iota(order.begin(), order.end(), size_t{0});
    for (size_t i = order.size(); i > 1; --i)
      std::swap(order[i - 1], order[static_cast<size_t>(random->Int(0, static_cast<int64_t>(i) - 1))]);
    Guarded<uint8_t> x(c.x.size(), place);
    std::vector<const uint8_t*> pointers(order.size());
    for (size_t i = 0; i < m; ++i) {
      for (size_t t = 0; t < taps; ++t) {
        uint8_t* row = x.data() + (c.even ? t * m + order[i] : order[i * taps + t]) * k;
        std::memcpy(row, c.x.data() + (i * taps + t) * k, k);
        if (!c.even || t == 0) pointers[t * m + i] = row;
      }
    }
    const Guarded<const uint8_t*> a(pointers, place);
    const Guarded<int8_t> w(Panel(c, tile), place);
    const Guarded<int32_t> init_g(init, place), base_g(base, place), box_g(box, place);
    const Guarded<float> scale_g(scale, place), bias_g(bias, place);
    const Guarded<uint8_t> residual_u8_g(residual_u8, place);
    const Guarded<float> residual_f32_g(residual_f32, place);
    const Guarded<uint8_t> out(want.size(), place);
    TileU8S8 t = {};
    t.a = a.data();
    t.tap_step = c.even ? m * k : 0;
    t.taps = static_cast<uint32_t>(c.taps);
    t.k = static_cast<uint32_t>(c.k);
    t.n = static_cast<uint32_t>(c.n);
    t.w = w.data();
    t.init = init_g.data();
    t.scale = scale_g.data();
    t.bias = c.bias ? bias_g.data() : nullptr;
    t.step = c.step;
    t.base = c.base ? base_g.data() : nullptr;
    t.box = c.base ? box_g.data() : nullptr;
    t.residual = residual;
    if (c.residual == Case::kU8) t.residual.u8 = residual_u8_g.data();
    if (c.residual == Case::kF32) t.residual.f32 = residual_f32_g.data();
    t.output = c.output;
    // Results stay far below 2^30, and no parameter is NaN: what remains of Output::saturates to prove is that the codes end at 0 and 255.
    const Output& o = c.output;
    const bool whole = o.v_lo == static_cast<float>(-o.zero_point) && o.v_hi == static_cast<float>(255 - o.zero_point);
    t.output.saturates = !o.f32 && whole && std::isinf(o.act_lo) && std::isinf(o.act_hi) && random->Coin();
    t.out = out.data();
    t.out_stride = stride;
    const kernels::TileScope scope(*set);
    set->u8s8_tile[c.m - 1](t);
    EXPECT_EQ(FirstDifference(out.data(), want.data(), want.size()), -1) << Describe(c);
  }

  Case RandomCase(Random* random) {
    Case c;
    c.m = random->Int(1, set->u8s8.mr);
    c.n = random->Int(1, set->u8s8.nr);
    c.taps = random->Pick(std::vector<int64_t>{1, 1, 3, 9});
    c.k = random->Int(1, 67);
    c.zero_point = static_cast<int32_t>(random->Pick(std::vector<int64_t>{0, 1, 127, 128, 255}));
    c.step = static_cast<int32_t>(random->Int(1, 2));
    c.bias = random->Coin();
    c.base = random->Int(0, 3) == 0;
    c.even = random->Coin();
    c.residual = static_cast<Case::Rest>(random->Int(0, 2));
    c.output = random->Pick(Outputs(0.05f));
    return c;
  }
};

// Holds E8.
TEST_P(TileU8S8Test, EqualsReferenceForEveryHeightAndWidth) {
  Random random(1);
  for (int64_t m = 1; m <= set->u8s8.mr; ++m) {
    for (int64_t n = 1; n <= set->u8s8.nr; ++n) {
      Case c = RandomCase(&random);
      c.m = m;
      c.n = n;
      Check(c, &random);
    }
  }
}

// Holds E7.
TEST_P(TileU8S8Test, EqualsReferenceForEveryDepth) {
  Random random(2);
  std::vector<int64_t> depths(67);
  std::iota(depths.begin(), depths.end(), int64_t{1});
  for (int64_t k : {127, 128, 129, 255, 256, 257, 511, 512, 513}) depths.push_back(k);
  for (int64_t k : depths) {
    for (int64_t taps : {1, 3, 9}) {
      Case c = RandomCase(&random);
      c.k = k;
      c.taps = taps;
      Check(c, &random);
    }
  }
}

TEST_P(TileU8S8Test, EqualsReferenceForEveryEpilogue) {
  Random random(3);
  for (const Output& output : Outputs(0.05f)) {
    for (int options = 0; options < 24; ++options) {
      Case c = RandomCase(&random);
      c.output = output;
      c.bias = (options & 1) != 0;
      c.base = (options & 2) != 0;
      c.step = (options & 4) != 0 ? 2 : 1;
      c.residual = static_cast<Case::Rest>(options / 8);
      Check(c, &random);
    }
  }
}

TEST_P(TileU8S8Test, ClampsBySaturationWhereTheCallerAllowsIt) {
  Random random(5);
  for (int64_t m = 1; m <= set->u8s8.mr; ++m) {
    for (int32_t zero_point : {0, 128, 255}) {
      for (Case::Rest residual : {Case::kNone, Case::kU8}) {
        Case c = RandomCase(&random);
        c.m = m;
        c.n = random.Coin() ? set->u8s8.nr : set->u8s8.nr / 2;
        c.base = false;
        c.step = 1;
        c.residual = residual;
        c.output = Codes(1e-3f, zero_point, 0, 255);  // most results lie beyond the codes, many beyond 16 bits
        Check(c, &random);
      }
    }
  }
}

// Holds D14, E1, E2, C7, C8, C10.
TEST_P(TileU8S8Test, NeverSaturatesAtExtremeOperands) {
  struct Extreme {
    const char* name;
    uint8_t x[2];    // alternating activations
    int8_t code[2];  // alternating codes
    int32_t zero_point;
  };
  const Extreme extremes[] = {
      {"largest negative", {255, 255}, {-128, -128}, 0},
      {"largest positive", {255, 255}, {127, 127}, 0},
      {"shifted", {0, 0}, {-128, -128}, 255},
      {"codes alternate", {255, 255}, {-128, 127}, 0},
      {"activations alternate", {0, 255}, {-128, 127}, 128},
      {"everything is the zero point", {37, 37}, {-128, 127}, 37},
  };
  Random random(4);
  for (const Extreme& e : extremes) {
    for (int64_t k : {2, 4, 7, 64, 513}) {
      Case c = RandomCase(&random);
      c.k = k;
      c.taps = 9;
      c.zero_point = e.zero_point;
      c.output = Floats();
      for (int64_t i = 0; i < c.m * c.taps * k; ++i) c.x.push_back(e.x[i % 2]);
      for (int64_t i = 0; i < c.n * c.taps * k; ++i) c.codes.push_back(e.code[i % 2]);
      SCOPED_TRACE(e.name);
      Check(c, &random);
    }
  }
}

PQI_INSTANTIATE(TileU8S8Test);

}  // namespace
}  // namespace pqi::test
