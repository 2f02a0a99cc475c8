// Packed convolutions equal the plain reference for every method, shape and split into parts.
#include <numeric>

#include "conv/packed_conv.h"
#include "tests/kernels/asks_ahead.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/guarded.h"
#include "tests/kernels/random_window.h"
#include "tests/kernels/reference_conv.h"

namespace pqi::test {
namespace {

using kernels::ConvShape;

std::string Describe(const ConvShape& s) {
  std::string text;
  for (int64_t v : {s.n, s.h, s.w, s.c, s.oc, s.kh, s.kw, s.stride_h, s.stride_w, s.pad_top, s.pad_left, s.pad_bottom, s.pad_right,
                    s.dilation_h, s.dilation_w, s.groups}) {
    text += std::to_string(v) + " ";
  }
  return "n h w c oc kh kw stride pad(t l b r) dilation groups = " + text;
}

// Layers of every kernel set; RunsPartsOfALayer below is for the reference.
class ConvTest : public KernelTest {
 protected:
  ConvShape RandomShape() {
    for (;;) {
      ConvShape s = RandomWindow(&random, 12);
      s.groups = random.Pick(std::vector<int64_t>{1, 1, 1, 2, 3});
      s.c = random.Pick(std::vector<int64_t>{1, 3, 4, 5, 16, 33, 64}) * s.groups;
      s.oc = random.Pick(std::vector<int64_t>{1, 5, 16, 33, 64, 100}) * s.groups;
      if (random.Int(0, 5) == 0) s.groups = s.oc = s.c;  // a depthwise layer
      if (Fits(s, 3000000)) return s;
    }
  }

  // A distance of output pixels, with and without room between them.
  size_t Stride(const ConvShape& s) { return static_cast<size_t>(s.oc + (random.Coin() ? random.Int(1, 70) : 0)); }

  // Runs a layer in a random number of parts, each with guarded scratch memory of its own.
  template <typename Packed, typename Run>
  void RunParts(const Packed& packed, const Run& run) {
    const int parts = static_cast<int>(random.Int(1, 5));
    for (int i = 0; i < parts; ++i) {
      const Guarded<uint8_t> scratch(packed.ScratchBytes(run.shape));
      packed.Run(run, conv::Split(packed.OutputWork(run.shape), parts, i), scratch.data());
    }
  }

  void CheckU8(const ConvShape& s, bool allow_options = true) {
    const auto place = random.Coin() ? GuardedBytes::kAtEnd : GuardedBytes::kAtBegin;
    const auto coin = [&] { return allow_options && random.Coin(); };
    const Guarded<uint8_t> x(random.Ints<uint8_t>(s.n * s.h * s.w * s.c, 0, 255), place);
    std::vector<int8_t> codes = random.Ints<int8_t>(s.oc * s.taps() * s.group_inputs(), -128, 127);
    if (random.Coin()) {  // few pairs of codes are too large to be added in 16 bits
      for (int8_t& c : codes) c = static_cast<int8_t>(random.Int(0, 63) == 0 ? c : c / 2);
    }
    const std::vector<float> scale = random.Floats(s.oc, 1e-5f, 1e-3f);
    std::vector<float> bias = random.Floats(s.oc, -3, 3);
    const std::vector<int32_t> base = random.Ints<int32_t>(s.oc, -20, 20);
    const size_t count = static_cast<size_t>(s.rows() * s.oc);
    const Guarded<uint8_t> residual_u8(random.Ints<uint8_t>(static_cast<int64_t>(count), 0, 255), place);
    const Guarded<float> residual_f32(random.Floats(static_cast<int64_t>(count), -3, 3), place);

    pack::WeightsU8 weights;
    weights.codes = codes.data();
    weights.step = coin() ? 2 : 1;
    weights.scale = scale.data();
    weights.bias = random.Coin() ? bias.data() : nullptr;
    weights.base = coin() ? base.data() : nullptr;
    weights.zero_point = static_cast<int32_t>(random.Int(0, 255));
    conv::ConvRun<uint8_t> run;
    run.shape = s;
    run.x = x.data();
    run.residual.zero_point = 9;
    run.residual.scale = 0.02f;
    if (coin()) run.residual.u8 = residual_u8.data();
    if (run.residual.u8 == nullptr && coin()) run.residual.f32 = residual_f32.data();
    run.output = random.Pick(Outputs(0.05f));
    // Results that no int32 holds must still give the right codes. As floats they would only show which NaN an instruction gives.
    if (!run.output.f32 && random.Coin()) {
      for (float special : {kNan, kInf, -kInf, 1e30f, -1e30f}) bias[static_cast<size_t>(random.Int(0, s.oc - 1))] = special;
    }

    const conv::PackedConvU8 packed(*set, s, weights);
    run.y_stride = Stride(s);
    const auto reference = ReferenceConv(s, x.data(), weights, run.residual, run.output);
    const std::vector<uint8_t> want = ReferenceOutput(reference, run.y_stride, place);
    const Guarded<uint8_t> got(want.size(), place);
    run.y = got.data();
    RunParts(packed, run);
    EXPECT_EQ(FirstDifference(got.data(), want.data(), want.size()), -1) << packed.layout().method->name << " " << Describe(s);
  }

  void CheckF32(const ConvShape& s) {
    const auto place = random.Coin() ? GuardedBytes::kAtEnd : GuardedBytes::kAtBegin;
    const Guarded<float> x(random.Floats(s.n * s.h * s.w * s.c, -2, 2), place);
    const std::vector<float> values = random.Floats(s.oc * s.taps() * s.group_inputs(), -1, 1), bias = random.Floats(s.oc, -3, 3);
    const size_t count = static_cast<size_t>(s.rows() * s.oc);
    const Guarded<float> residual(random.Floats(static_cast<int64_t>(count), -3, 3), place), dense(count, place);
    pack::WeightsF32 weights;
    weights.weights = values.data();
    weights.bias = random.Coin() ? bias.data() : nullptr;
    conv::ConvRun<float> run;
    run.shape = s;
    run.x = x.data();
    if (random.Coin()) run.residual.f32 = residual.data();
    run.output = random.Coin() ? Floats() : Floats(0, 6);

    kernels::reference::ConvF32 conv;
    conv.shape = s;
    conv.x = x.data();
    conv.weights = values.data();
    conv.bias = weights.bias;
    conv.residual = run.residual;
    conv.residual.stride = static_cast<size_t>(s.oc);
    conv.act_lo = run.output.act_lo;
    conv.act_hi = run.output.act_hi;
    conv.y = dense.data();
    conv.y_stride = static_cast<size_t>(s.oc);
    kernels::reference::Conv2dF32(conv, 0, s.rows());

    const conv::PackedConvF32 packed(*set, s, weights);
    run.y_stride = Stride(s);
    const size_t row = static_cast<size_t>(s.oc) * sizeof(float), stride = run.y_stride * sizeof(float);
    const std::vector<uint8_t> want = Spaced(reinterpret_cast<const uint8_t*>(dense.data()), static_cast<size_t>(s.rows()), row, stride);
    const Guarded<uint8_t> got(want.size(), place);
    run.y = got.data();
    RunParts(packed, run);
    EXPECT_EQ(FirstDifference(got.data(), want.data(), want.size()), -1) << packed.layout().method->name << " " << Describe(s);
  }

  Random random{1};
};

ConvShape Linear(int64_t rows, int64_t inputs, int64_t outputs) {
  ConvShape s;
  s.n = rows;
  s.c = inputs;
  s.oc = outputs;
  return s;
}

// Holds E9.
TEST_P(ConvTest, CodesEqualReferenceOnRandomShapes) {
  for (int i = 0; i < 400; ++i) CheckU8(RandomShape());
}

TEST_P(ConvTest, FloatsEqualReferenceOnRandomShapes) {
  for (int i = 0; i < 200; ++i) CheckF32(RandomShape());
}

TEST_P(ConvTest, LinearEqualsReferenceForEveryRowTail) {
  for (int64_t rows = 1; rows <= 2 * set->u8s8.mr + 1; ++rows) CheckU8(Linear(rows, random.Int(1, 67), random.Int(1, 70)));
  for (int64_t rows = 1; rows <= 2 * set->f32.mr + 1; ++rows) CheckF32(Linear(rows, random.Int(1, 67), random.Int(1, 70)));
}

TEST_P(ConvTest, LinearEqualsReferenceForEveryChannelTail) {
  for (int64_t outputs = 1; outputs <= 2 * set->u8s8.nr + 1; ++outputs) CheckU8(Linear(random.Int(1, 30), random.Int(1, 67), outputs));
  for (int64_t outputs = 1; outputs <= 2 * set->f32.nr + 1; ++outputs) CheckF32(Linear(random.Int(1, 30), random.Int(1, 67), outputs));
}

TEST_P(ConvTest, BlocksOfRowsJoinSeamlessly) {
  ConvShape s;  // 2 * 23 * 23 pixels make several blocks, and tiles cross rows and images
  s.n = 2;
  s.h = s.w = 23;
  s.c = 17;
  s.oc = 35;
  s.kh = s.kw = 3;
  s.pad_top = s.pad_left = s.pad_bottom = s.pad_right = 1;
  CheckU8(s);
  CheckF32(s);
  s.c = 1;  // few channels are read in lines
  CheckU8(s);
  CheckF32(s);
  s.dilation_w = 2;  // taps that lie apart are gathered
  CheckU8(s);
  CheckF32(s);
}

TEST_P(ConvTest, LinesEqualReferenceForFewChannels) {
  for (int64_t channels = 1; channels <= 15; ++channels) {
    for (int64_t kernel = 1; kernel <= 7; ++kernel) {
      ConvShape s;
      s.groups = random.Int(1, 3);
      s.c = channels * s.groups;
      s.oc = s.groups * random.Int(1, 40);
      s.n = random.Int(1, 2);
      s.h = random.Int(1, 20);
      s.w = random.Int(1, 20);
      s.kh = random.Int(1, 7);
      s.kw = s.kh == 1 ? std::max<int64_t>(kernel, 2) : kernel;
      s.stride_h = random.Int(1, 8);
      s.stride_w = random.Int(1, 8);
      s.dilation_h = random.Int(1, 3);
      s.pad_top = random.Int(0, s.dilation_h * s.kh);
      s.pad_left = random.Int(0, s.kw + 1);
      s.pad_bottom = std::max<int64_t>(s.dilation_h * s.kh - s.h - s.pad_top, random.Int(0, s.kh));
      s.pad_right = std::max<int64_t>(s.kw - s.w - s.pad_left, random.Int(0, s.kw));
      if (s.depthwise()) continue;
      if (set->u8s8_matrix == nullptr || (s.groups > 1 && s.group_outputs() < kernels::kMatrixRows)) {
        EXPECT_STREQ(conv::LayoutConvU8(*set, s, {}).method->name, "lines") << Describe(s);
      }
      EXPECT_STREQ(conv::LayoutConvF32(*set, s, {}).method->name, "lines") << Describe(s);
      CheckU8(s);
      CheckF32(s);
    }
  }
}

TEST_P(ConvTest, BandsOfLinesJoinSeamlessly) {
  for (int64_t stride : {1, 2, 4}) {
    ConvShape s;
    s.c = 3;
    s.oc = 5;
    s.kh = s.kw = 3;
    s.stride_h = s.stride_w = stride;
    s.pad_top = s.pad_left = s.pad_right = 1;
    s.h = s.w = 130;  // a band holds several image rows
    CheckU8(s);
    CheckF32(s);
    s.h = 5;  // a band holds a piece of one row
    s.w = 6001;
    CheckU8(s);
    CheckF32(s);
    s.c = s.groups = 15;  // a band holds the least number of columns
    s.c *= 15;
    s.oc = s.groups;
    s.kh = 5;
    s.w = 130;
    CheckU8(s);
    CheckF32(s);
  }
}

// Holds E9.
TEST_P(ConvTest, AWindowEntirelyInThePaddingIsZero) {
  ConvShape s;
  s.h = s.w = 2;
  s.c = 20;
  s.oc = 3;
  s.kh = s.kw = 2;
  s.pad_top = s.pad_left = s.pad_bottom = s.pad_right = 4;
  CheckU8(s, false);
  CheckF32(s);
  s.c = 3;
  CheckU8(s, false);
  CheckF32(s);
}

ConvShape Depthwise(int64_t kernel, int64_t channels, int64_t h, int64_t w, int64_t stride) {
  ConvShape s;
  s.h = h;
  s.w = w;
  s.c = s.oc = s.groups = channels;
  s.kh = s.kw = kernel;
  s.stride_h = s.stride_w = stride;
  s.pad_top = s.pad_left = s.pad_bottom = s.pad_right = kernel / 2;
  return s;
}

TEST_P(ConvTest, DepthwiseBandsEqualReferenceForEveryChannelTail) {
  for (int64_t channels = 1; channels <= 150; ++channels) {
    for (int64_t kernel : {3, 5}) {
      for (int64_t stride : {1, 2}) {
        ConvShape s = Depthwise(kernel, channels, random.Int(1, 6), random.Int(1, 9), stride);
        s.n = random.Int(1, 2);
        s.pad_left = random.Int(2, 6);
        s.pad_top = random.Int(1, 6);
        s.dilation_h = random.Int(1, 2);
        s.pad_right = random.Int(2, 4);
        s.pad_bottom = 4 * s.dilation_h;
        CheckU8(s, false);
      }
    }
  }
}

TEST_P(ConvTest, DepthwiseBandsJoinSeamlessly) {
  for (int64_t kernel : {3, 5}) {
    for (int64_t stride : {1, 2}) {
      for (int64_t channels : {5, 16, 33, 48, 80, 144})
        CheckU8(Depthwise(kernel, channels, 40, 31, stride), false);  // bands of several rows
      CheckU8(Depthwise(kernel, 33, 4, 1501, stride), false);         // bands of a piece of a row
    }
  }
}

TEST_P(ConvTest, DepthwiseRowsOfOneStrideAndColumnsOfAnother) {
  for (int64_t kernel : {3, 5}) {
    for (int64_t stride_h = 1; stride_h <= 7; ++stride_h) {
      ConvShape s = Depthwise(kernel, 36, 23, 11, 1);
      s.stride_h = stride_h;
      CheckU8(s, false);
    }
  }
}

TEST_P(ConvTest, ChoosesTheMethodByTheLayer) {
  const std::vector<int8_t> codes(size_t{64} * 64 * 9);
  const std::vector<float> scale(64, 1.0f);
  pack::WeightsU8 weights;
  weights.codes = codes.data();
  weights.scale = scale.data();
  const auto method = [&](int64_t c, int64_t oc, int64_t k, int64_t groups, int64_t dilation = 1) {
    ConvShape s;
    s.c = c;
    s.oc = oc;
    s.kh = s.kw = k;
    s.groups = groups;
    s.dilation_w = dilation;
    return std::string(conv::PackedConvU8(*set, s, weights).layout().method->name);
  };
  EXPECT_EQ(method(64, 64, 3, 64), "depthwise");
  EXPECT_EQ(method(64, 64, 3, 16), "lines");
  EXPECT_EQ(method(64, 64, 3, 16, 2), "gather") << "taps of a line are apart";
  if (set->u8s8_matrix != nullptr) {
    EXPECT_EQ(method(3, 64, 3, 1), "matrix");
    EXPECT_EQ(method(33, 4, 1, 1), "matrix");
    EXPECT_EQ(method(64, 64, 3, 2), "matrix");
    EXPECT_EQ(method(64, 60, 3, 4), "tiles") << "fewer channels than a register has";
    return;
  }
  EXPECT_EQ(method(3, 64, 3, 1), "lines");
  EXPECT_EQ(method(1, 64, 3, 1), "lines");
  EXPECT_EQ(method(3, 64, 1, 1), "tiles");
  EXPECT_EQ(method(64, 64, 3, 1), "runs");
  EXPECT_EQ(method(33, 64, 3, 1), "tiles") << "a run would end within a block of k";
  EXPECT_EQ(method(256, 4, 3, 1), "tiles") << "runs would be long";
}

TEST_P(ConvTest, PairsOfProductsNeverSaturate) {
  const bool pairs = set->u8s8_pairs_mr > 0;
  for (int64_t k : {4, 7, 64, 129}) {
    for (int8_t code : {int8_t{-128}, int8_t{-64}, int8_t{64}, int8_t{127}}) {
      ConvShape s = Linear(13, k, 35);
      std::vector<int8_t> codes(static_cast<size_t>(s.oc * k), code);
      if (code != 64 && code != -64) {  // a panel of small codes has one pair beyond the limit
        std::fill(codes.begin(), codes.end(), static_cast<int8_t>(1));
        for (size_t i = 0; i < 2; ++i) codes[static_cast<size_t>(k) * 20 + i] = code;
      }
      const std::vector<uint8_t> x(static_cast<size_t>(s.n * k), 255);
      const std::vector<float> scale(static_cast<size_t>(s.oc), 1.0f);
      pack::WeightsU8 weights;
      weights.codes = codes.data();
      weights.scale = scale.data();
      std::vector<float> got(static_cast<size_t>(s.n * s.oc));
      conv::ConvRun<uint8_t> run;
      run.shape = s;
      run.x = x.data();
      run.output = Floats();
      run.y = got.data();
      run.y_stride = static_cast<size_t>(s.oc);
      const conv::PackedConvU8 packed(*set, s, weights);
      if (pairs && (k > 7 || code == 64 || code == -64)) {
        EXPECT_GT(packed.WeightBytes(), packed.layout().bytes) << "k " << k;
      }
      const Guarded<uint8_t> scratch(packed.ScratchBytes(run.shape));
      packed.Run(run, {0, packed.OutputWork(s).rows, 0, packed.layout().panels}, scratch.data());
      for (int64_t row = 0; row < s.n; ++row) {
        for (int64_t c = 0; c < s.oc; ++c) {
          const auto first = codes.begin() + c * k;
          const int32_t sum = 255 * std::accumulate(first, first + k, int32_t{0});
          ASSERT_EQ(got[static_cast<size_t>(row * s.oc + c)], static_cast<float>(sum)) << "k " << k << " channel " << c;
        }
      }
    }
  }
}

std::vector<KernelCall> tile_calls;
const kernels::KernelSet* called_set;
template <int M = kernels::kMaxMr>
void RecordTiles(kernels::KernelSet* set) {
  if (set->u8s8_tile[M - 1] != nullptr) {
    set->u8s8_tile[M - 1] = [](const kernels::TileU8S8& t) noexcept {
      tile_calls.push_back({t.w, t.ahead, size_t{64} * t.taps * t.k / 4});
      called_set->u8s8_tile[M - 1](t);
    };
  }
  if constexpr (M > 1) RecordTiles<M - 1>(set);
}

TEST_P(ConvTest, TilesAskForEachLineOfTheNextPanelOnce) {
  called_set = set;
  kernels::KernelSet recording = *set;
  recording.u8s8_pairs_mr = 0;
  RecordTiles(&recording);
  for (int64_t size : {1, 5, 15, 16}) {  // one tile, several, a block of them, and two blocks
    ConvShape s;
    s.h = s.w = size;
    s.c = 64;
    s.oc = 100;
    const LayerOfOnes layer(s);
    const conv::PackedConvU8 packed(recording, s, layer.Weights());
    const conv::ConvLayout& layout = packed.layout();
    if (std::string(layout.method->name) != "tiles") GTEST_SKIP() << layout.method->name;
    tile_calls.clear();
    layer.Run(packed);
    const size_t parts = layout.panel_bytes / static_cast<size_t>(64 * s.c / layout.tile.kr);
    ForEachPanel(tile_calls, layout.panel_bytes, [&](const int8_t* w, size_t calls, size_t asked) {
      const bool asks = parts > 0 && calls >= parts && w != tile_calls.back().w;
      EXPECT_EQ(asked, asks ? layout.panel_bytes : 0) << size << ", " << calls << " tiles";
    });
  }
}

PQI_INSTANTIATE(ConvTest);

// The reference set keeps weights in the order of the file and runs any rows.
TEST(ReferenceConvSet, RunsPartsOfALayer) {
  Random random(1);
  ConvShape s;
  s.n = 2;
  s.h = s.w = 5;
  s.c = 6;
  s.oc = 4;
  s.groups = 2;
  s.kh = s.kw = 3;
  s.pad_top = s.pad_left = 1;
  const std::vector<uint8_t> x = random.Ints<uint8_t>(s.n * s.h * s.w * s.c, 0, 255);
  const std::vector<int8_t> codes = random.Ints<int8_t>(s.oc * s.taps() * s.group_inputs(), -128, 127);
  const std::vector<float> scale = random.Floats(s.oc, 1e-4f, 1e-3f);
  pack::WeightsU8 weights;
  weights.codes = codes.data();
  weights.scale = scale.data();
  weights.zero_point = 17;
  conv::ConvRun<uint8_t> run;
  run.shape = s;
  run.x = x.data();
  run.output = Floats();
  const auto reference = ReferenceConv(s, x.data(), weights, run.residual, run.output);
  const std::vector<uint8_t> want = ReferenceOutput(reference, static_cast<size_t>(s.oc), GuardedBytes::kAtEnd);
  std::vector<uint8_t> got(want.size());
  run.y = got.data();
  run.y_stride = static_cast<size_t>(s.oc);
  const conv::PackedConvU8 packed(*kernels::GetKernelSet(Isa::kReference), s, weights);
  EXPECT_EQ(packed.layout().panels, 1);
  for (int i = 0; i < 3; ++i) packed.Run(run, {i * s.rows() / 3, (i + 1) * s.rows() / 3, 0, 1}, nullptr);
  EXPECT_EQ(FirstDifference(got.data(), want.data(), want.size()), -1);
}

conv::Work Grid(int64_t rows, int64_t panels) {
  conv::Work work;
  work.rows = rows;
  work.panels = panels;
  work.macs = 1000;
  return work;
}

TEST(Split, CoversEveryRowAndPanelExactlyOnce) {
  for (int64_t rows : {0, 1, 2, 7, 49, 196}) {
    for (int64_t panels : {1, 2, 3, 16}) {
      for (int64_t grain : {1, 7, 16, 300}) {
        for (int64_t panel_bytes : {0, 1 << 20}) {
          conv::Work work = Grid(rows, panels);
          work.grain = grain;
          work.panel_bytes = panel_bytes;
          work.row_bytes = 64;
          for (int parts = 1; parts <= 9; ++parts) {
            std::vector<int> hits(static_cast<size_t>(rows * panels));
            for (int i = 0; i < parts; ++i) {
              const conv::ConvPart p = conv::Split(work, parts, i);
              if (p.row_begin < p.row_end) {
                ASSERT_EQ(p.row_begin % grain, 0);
              }
              for (int64_t r = p.row_begin; r < p.row_end; ++r) {
                for (int64_t c = p.panel_begin; c < p.panel_end; ++c) ++hits[static_cast<size_t>(r * panels + c)];
              }
            }
            for (int h : hits) ASSERT_EQ(h, 1) << rows << "x" << panels << " in " << parts;
          }
        }
      }
    }
  }
}

TEST(Split, SplitsPanelsWhereRowsAreFew) {
  const conv::ConvPart p = conv::Split(Grid(1, 16), 4, 3);
  EXPECT_EQ(p.row_end - p.row_begin, 1);
  EXPECT_EQ(p.panel_end - p.panel_begin, 4);
}

TEST(Split, SplitsWhatWouldBeReadTwice) {
  conv::Work work = Grid(196, 16);
  EXPECT_EQ(conv::Split(work, 2, 0).panel_end, 16);  // both ways are the same work, so rows are split
  work.panel_bytes = 100 << 10;
  EXPECT_EQ(conv::Split(work, 2, 0).panel_end, 8);
  work.row_bytes = 100 << 10;
  EXPECT_EQ(conv::Split(work, 2, 0).panel_end, 16);
}

TEST(Split, CountsWholeGrains) {
  conv::Work work = Grid(49, 16);  // 25 rows are 2 blocks, 49 rows are 4
  work.grain = 16;
  EXPECT_EQ(conv::Split(work, 2, 0).row_end, 32);
  work.panels = 15;  // a part has 2 * 15 blocks by rows, 4 * 8 by panels
  EXPECT_EQ(conv::Split(work, 2, 1).row_begin, 32);
  work.rows = 48;  // a part has 2 * 15 blocks by rows, 3 * 8 by panels
  EXPECT_EQ(conv::Split(work, 2, 1).panel_begin, 8);
}

}  // namespace
}  // namespace pqi::test
