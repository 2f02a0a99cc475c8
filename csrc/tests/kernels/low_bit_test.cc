// Winograd, inner products and deferred sums equal the plain reference wherever the conditions of docs/numerics.md hold, their extremes
// included.
#include "pack/low_bit.h"

#include "conv/winograd_filter.h"
#include "pack/winograd_codes.h"
#include "tests/kernels/asks_ahead.h"
#include "tests/kernels/coded_layer.h"

namespace pqi::test {
namespace {

using conv::Algorithm;
using conv::Product;
using kernels::ConvShape;

class LowBitTest : public CodedLayerTest {
 protected:
  // The algorithms of this ISA, each with ranges on the edge of its condition.
  std::vector<std::pair<Algorithm, Ranges>> Cases() const {
    std::vector<std::pair<Algorithm, Ranges>> cases;
    const bool winograd = set->winograd_2d.input != nullptr;
    if (winograd) {
      for (const Ranges& r : {Ranges{63, 14}, {15, 7}, {1, 14}, {63, 1}})
        cases.push_back({{nullptr, &conv::kWinograd2d, Product::kDot, 0}, r});
      for (const Ranges& r : {Ranges{127, 42}, {63, 31}, {127, 1}, {1, 42}})
        cases.push_back({{nullptr, &conv::kWinograd1d, Product::kDot, 0}, r});
      for (const Ranges& r : {Ranges{25, 18}, {15, 7}, {25, 1}, {1, 18}})
        cases.push_back({{nullptr, &conv::kWinograd1d4, Product::kDot, 0}, r});
      for (const Ranges& r : {Ranges{15, 7}, {15, 1}, {1, 7}}) cases.push_back({{nullptr, &conv::kWinograd4x4, Product::kDot, 0}, r});
    }
    if (set->u8s8_inner_product.shape.mr > 0) {
      for (const Ranges& r : {Ranges{15, 7}, {31, 7}, {59, 1}, {3, 13}})
        cases.push_back({{nullptr, &conv::kWinograd2d, Product::kInnerProduct, 0}, r});
      for (const Ranges& r : {Ranges{15, 7}, {121, 2}, {63, 21}, {1, 42}})
        cases.push_back({{nullptr, &conv::kWinograd1d, Product::kInnerProduct, 0}, r});
      for (const Ranges& r : {Ranges{15, 7}, {24, 2}, {20, 9}, {1, 17}})
        cases.push_back({{nullptr, &conv::kWinograd1d4, Product::kInnerProduct, 0}, r});
      for (const Ranges& r : {Ranges{15, 7}, {241, 7}, {253, 1}, {127, 64}, {1, 127}}) {
        cases.push_back({{nullptr, nullptr, Product::kInnerProduct, 0}, r});
      }
    }
    if (set->u8s8_deferred.shape.mr > 0) {
      const auto depth = [](int activation, int code) { return static_cast<uint32_t>(32767 / (2 * activation * code)); };
      if (winograd) {
        for (const Ranges& r : {Ranges{15, 7}, {15, 1}, {3, 14}}) {
          cases.push_back({{nullptr, &conv::kWinograd2d, Product::kDeferred, depth(4 * r.width, 9 * r.code)}, r});
        }
        for (const Ranges& r : {Ranges{127, 7}, {127, 21}, {63, 42}, {15, 1}}) {
          cases.push_back({{nullptr, &conv::kWinograd1d, Product::kDeferred, depth(2 * r.width, 3 * r.code)}, r});
        }
        for (const Ranges& r : {Ranges{15, 7}, {15, 1}}) {
          cases.push_back({{nullptr, &conv::kWinograd4x4, Product::kDeferred, depth(16 * r.width, 9 * r.code)}, r});
        }
        for (const Ranges& r : {Ranges{15, 7}, {25, 15}, {25, 1}, {1, 18}}) {
          cases.push_back({{nullptr, &conv::kWinograd1d4, Product::kDeferred, depth(6 * r.width, 7 * r.code)}, r});
        }
      }
      for (const Ranges& r : {Ranges{255, 7}, {255, 8}, {255, 1}, {15, 7}, {255, 64}, {1, 1}}) {
        cases.push_back({{nullptr, nullptr, Product::kDeferred, depth(r.width, r.code)}, r});
      }
    }
    return cases;
  }

  ConvShape RandomShape(const Algorithm& algorithm) {
    ConvShape s;
    s.n = random.Int(1, 3);
    s.h = random.Int(1, 13);
    s.w = random.Int(1, 13);
    s.kh = s.kw = IsWinograd(algorithm) ? 3 : random.Pick(std::vector<int64_t>{1, 1, 3});
    s.pad_top = random.Int(0, 3);
    s.pad_left = random.Int(0, 3);
    s.pad_bottom = std::max<int64_t>(random.Int(0, 3), s.kh - s.h - s.pad_top);
    s.pad_right = std::max<int64_t>(random.Int(0, 3), s.kw - s.w - s.pad_left);
    s.c = random.Int(1, 140);
    if (algorithm.product == Product::kInnerProduct) s.c = random.Int(1, 18) * 8;
    s.oc = random.Pick(std::vector<int64_t>{1, 5, 16, 31, 32, 33, 64, 70});
    if (!IsWinograd(algorithm)) {
      s.stride_h = random.Int(1, 2);
      s.stride_w = random.Int(1, 2);
      s.groups = random.Int(1, 2);
      s.c *= s.groups;
      s.oc *= s.groups;
    }
    return s;
  }
};

TEST_P(LowBitTest, EqualsReferenceOnRandomShapes) {
  for (const auto& [algorithm, ranges] : Cases()) {
    for (int i = 0; i < 40; ++i) Check(RandomShape(algorithm), algorithm, ranges);
  }
}

// Holds E5, E6.
TEST_P(LowBitTest, EqualsReferenceAtTheEndsOfTheRanges) {
  const std::vector<Fill> fills = {Fill::kLargest, Fill::kLeast, Fill::kAlternating};
  for (const auto& [algorithm, ranges] : Cases()) {
    for (Fill x : fills) {
      for (Fill w : fills) {
        ConvShape s = RandomShape(algorithm);
        s.c = 256 * s.groups;
        Check(s, algorithm, ranges, x, w);
      }
    }
  }
}

TEST_P(LowBitTest, WinogradEqualsReferenceForEveryTail) {
  if (set->winograd_2d.input == nullptr) GTEST_SKIP() << "no Winograd";
  for (const auto& [filter, ranges] : {std::pair{&conv::kWinograd2d, Ranges{63, 14}},
                                       {&conv::kWinograd1d, {127, 42}},
                                       {&conv::kWinograd1d4, {25, 18}},
                                       {&conv::kWinograd4x4, {15, 7}}}) {
    ConvShape s;
    s.kh = s.kw = 3;
    s.pad_top = s.pad_left = s.pad_bottom = s.pad_right = 1;
    for (int64_t c = 1; c <= 130; ++c) {
      s.h = random.Int(1, 6);
      s.w = random.Int(1, 6);
      s.c = c;
      s.oc = random.Int(1, 70);
      Check(s, {nullptr, filter, Product::kDot, 0}, ranges);
    }
    s.c = 9;
    for (int64_t size = 1; size <= 26; ++size) {  // tiles cross rows and images, and blocks are cut anywhere
      s.n = 2;
      s.h = size;
      s.w = 27 - size;
      Check(s, {nullptr, filter, Product::kDot, 0}, ranges);
    }
  }
}

// The sizes give blocks of tiles that hold many images, or a piece of one row, or that leave rows of the padded image for the next block.
TEST_P(LowBitTest, Winograd1dKeepsTheRowsThatItReadsAgain) {
  if (set->winograd_1d.input == nullptr) GTEST_SKIP() << "no Winograd";
  struct Size {
    int64_t n, h, w;
  };
  for (const Size& size : {Size{150, 1, 1}, {40, 3, 2}, {1, 220, 1}, {2, 2, 450}, {1, 9, 191}, {3, 21, 33}}) {
    ConvShape s;
    s.n = size.n;
    s.h = size.h;
    s.w = size.w;
    s.kh = s.kw = 3;
    s.pad_top = s.pad_left = s.pad_bottom = s.pad_right = 1;
    s.c = 11;
    s.oc = 33;
    for (int i = 0; i < 4; ++i) {
      Check(s, {nullptr, &conv::kWinograd1d, Product::kDot, 0}, {127, 42});
      Check(s, {nullptr, &conv::kWinograd1d4, Product::kDot, 0}, {25, 18});
    }
    s.pad_top = 0;  // images follow each other without a row of padding between them
    s.pad_bottom = 2;
    Check(s, {nullptr, &conv::kWinograd1d, Product::kDot, 0}, {127, 42});
    Check(s, {nullptr, &conv::kWinograd1d4, Product::kDot, 0}, {25, 18});
  }
}

std::vector<KernelCall> product_calls;
const kernels::KernelSet* called_set;
template <int M>
void RecordProduct(const kernels::ProductU8S8& t) noexcept {
  product_calls.push_back({t.w, t.ahead == t.w ? nullptr : t.ahead, size_t{64} * t.taps * t.k / 4});
  called_set->u8s8_dot.product[M - 1](t);
}
template <int M>
void RecordProducts(kernels::KernelSet* set) {
  if (set->u8s8_dot.product[M - 1] != nullptr) set->u8s8_dot.product[M - 1] = &RecordProduct<M>;
  if constexpr (M > 1) RecordProducts<M - 1>(set);
}

TEST_P(LowBitTest, WinogradAsksForEachLineOfTheNextPositionOnce) {
  if (set->winograd_2d.input == nullptr) GTEST_SKIP() << "no Winograd";
  called_set = set;
  kernels::KernelSet recording = *set;
  RecordProducts<kernels::kMaxMr>(&recording);
  const size_t lines = static_cast<size_t>(set->u8s8.nr) * 4 / 64;  // cache lines of four k-values of a panel
  for (const conv::WinogradFilter* filter : conv::AllWinogradFilters()) {
    bool some = false;
    for (int64_t size : {2, 7, 8, 13, 25}) {  // from one product for each position to many
      ConvShape s;
      s.h = s.w = size;
      s.kh = s.kw = 3;
      s.pad_top = s.pad_left = s.pad_bottom = s.pad_right = 1;
      s.c = 20;
      s.oc = 70;
      const LayerOfOnes layer(s);
      const conv::PackedConvU8 packed(recording, s, layer.Weights(), {nullptr, filter, Product::kDot, 0});
      product_calls.clear();
      layer.Run(packed);
      const size_t bytes = packed.layout().panel_bytes / static_cast<size_t>(filter->positions());
      ForEachPanel(product_calls, bytes, [&](const int8_t*, size_t calls, size_t asked) {
        EXPECT_EQ(asked, calls < lines ? 0 : bytes) << "size " << size << ", " << calls << " products";
        some = some || calls >= lines;
      });
    }
    EXPECT_TRUE(some);
  }
}

// Transformed codes that were worked out by hand for one kernel.
TEST(Winograd, TransformsAKernelIntoIntegers) {
  const int8_t g[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  const std::pair<pack::TransformCodesFn, std::vector<int16_t>> expected[] = {
      {pack::TransformCodes2d, {4, 12, 4, 12, 24, 45, 15, 36, 8, 15, 5, 12, 28, 48, 16, 36}},
      {pack::TransformCodes1d, {2, 8, 14, 6, 15, 24, 2, 5, 8, 6, 12, 18}},
      {pack::TransformCodes1d4, {1, 4, 7, 6, 15, 24, 2, 5, 8, 17, 38, 59, 9, 18, 27, 3, 6, 9}},
      {pack::TransformCodes4x4,
       {16,  24,  8,   48,  48,  45,  15,  72,  16,  15,  5,   24,  112, 96, 32, 144,  // real in both dimensions
        -8,  -8,  -16, -12, -30, -42, -4,  -10, -14, -8,  -32, -40,                    // complex in x, real in y
        -24, -16, -40, -36, -30, -66, -12, -10, -22, -24, -24, -48,  // real in x, complex in y; the last line: complex in both
        -10, 16,  6,   10,  8,   18}}};
  for (const auto& [transform, codes] : expected) {
    pack::CodeLanes u[pack::kMostPositions];
    transform(g, 1, 1, u);
    for (size_t i = 0; i < codes.size(); ++i) {
      EXPECT_EQ(u[i].v[0], codes[i]) << codes.size() << " codes, " << i;
      EXPECT_EQ(u[i].v[1], 0);
    }
  }
}

PQI_INSTANTIATE(LowBitTest);

}  // namespace
}  // namespace pqi::test
