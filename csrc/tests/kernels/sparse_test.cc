// Sparse layers equal the plain reference for every density, window and image, on both sides of every bound.
#include "tests/kernels/coded_layer.h"
#include "tests/kernels/random_window.h"

namespace pqi::test {
namespace {

using kernels::ConvShape;

const conv::Algorithm kSparse = {&conv::kSparseMethod, nullptr, conv::Product::kDot, 0};

class SparseTest : public CodedLayerTest {
 protected:
  void SetUp() override {
    CodedLayerTest::SetUp();
    if (!IsSkipped() && set->sparse_positions == 0) GTEST_SKIP() << "no sparse kernels";
  }

  ConvShape RandomShape(int64_t largest_image) {
    for (;;) {
      ConvShape s = RandomWindow(&random, largest_image);
      s.groups = random.Pick(std::vector<int64_t>{1, 1, 2});
      s.c = random.Pick(std::vector<int64_t>{1, 3, 15, 16, 17, 40, 64}) * s.groups;
      s.oc = random.Pick(std::vector<int64_t>{1, 5, 16, 33, 64, 70, 130}) * s.groups;
      if (Fits(s, 4000000)) return s;
    }
  }

  // Codes -code..code, of which `percent` are not zero; some channels have none at all.
  std::vector<int8_t> SparseCodes(const ConvShape& s, int code, int64_t percent) {
    const int64_t per_channel = s.taps() * s.group_inputs();
    std::vector<int8_t> codes(static_cast<size_t>(s.oc * per_channel));
    for (int64_t o = 0; o < s.oc; ++o) {
      if (random.Int(0, 9) == 0) continue;
      for (int64_t i = 0; i < per_channel; ++i) {
        if (random.Int(0, 99) >= percent) continue;
        const int64_t value = random.Int(1, code);
        codes[static_cast<size_t>(o * per_channel + i)] = static_cast<int8_t>(random.Coin() ? value : -value);
      }
    }
    return codes;
  }
};

// The largest activations at which a byte still holds 17, 8, 5 and 4 of them, and those of 7 and 8 bits.
const std::vector<int> kWidths = {1, 3, 15, 31, 51, 63, 127, 255};

TEST_P(SparseTest, EqualsReferenceOnRandomShapes) {
  for (int i = 0; i < 300; ++i) {
    const ConvShape s = RandomShape(14);
    const int64_t percent = random.Pick(std::vector<int64_t>{0, 3, 11, 30, 50, 100});
    CheckCodes(s, s, kSparse, {random.Pick(kWidths), 1}, SparseCodes(s, 1, percent));
  }
}

TEST_P(SparseTest, EqualsReferenceOnImagesThatItWasNotPackedFor) {
  for (int i = 0; i < 150; ++i) {
    const ConvShape s = RandomShape(20);
    ConvShape expected = s;
    expected.n = 1;
    expected.h = random.Int(0, 70);  // windows may not fit at all
    expected.w = random.Int(0, 140);
    CheckCodes(expected, s, kSparse, {random.Pick(kWidths), 1}, SparseCodes(s, 1, 11));
  }
}

TEST_P(SparseTest, RowsLongerThanAVectorAreCut) {
  for (const int64_t w : {63, 64, 65, 127, 200, 513, 700}) {
    for (const int64_t stride : {1, 2}) {
      ConvShape s;
      s.h = 5;
      s.w = w;
      s.c = 17;
      s.oc = 9;
      s.kh = s.kw = 3;
      s.stride_h = s.stride_w = stride;
      s.pad_top = s.pad_left = s.pad_right = 1;
      ConvShape narrow = s;
      narrow.w = 9;
      CheckCodes(s, s, kSparse, {15, 1}, SparseCodes(s, 1, 11));
      CheckCodes(narrow, s, kSparse, {255, 1}, SparseCodes(s, 1, 11));
    }
  }
}

TEST_P(SparseTest, SmallCodesAreAddedSeveralTimes) {
  for (int i = 0; i < 60; ++i) {
    const ConvShape s = RandomShape(9);
    CheckCodes(s, s, kSparse, {random.Pick(kWidths), 4}, SparseCodes(s, 4, 10));
  }
}

// 16 bits hold 128 activations of 255, and one more takes a second row.
TEST_P(SparseTest, SumsBeyond16BitsAreSharedOut) {
  for (const int64_t inputs : {127, 128, 129, 257, 400, 2200}) {
    for (const int code : {1, -1}) {
      for (const int64_t k : {1, 3}) {
        ConvShape s;
        s.h = s.w = 3;
        s.kh = s.kw = k;
        s.pad_top = s.pad_left = s.pad_bottom = s.pad_right = k / 2;
        s.c = inputs;
        s.oc = 3;
        const std::vector<int8_t> codes(static_cast<size_t>(s.oc * s.taps() * s.c), static_cast<int8_t>(code));
        CheckCodes(s, s, kSparse, {255, 1}, codes, Fill::kLargest);
        CheckCodes(s, s, kSparse, {15, 1}, codes, Fill::kLargest);
      }
    }
  }
}

TEST_P(SparseTest, EveryNumberOfVectorsIsRun) {
  for (const int width : {15, 255}) {
    for (int64_t rows = 1; rows <= 10; ++rows) {
      ConvShape s;  // whole vectors, so the best cut has as many as there are
      s.h = rows;
      s.w = set->sparse_positions;
      s.c = 32;
      s.oc = 40;
      s.kh = 3;
      s.pad_top = s.pad_bottom = 1;
      CheckCodes(s, s, kSparse, {width, 1}, SparseCodes(s, 1, 11));
    }
  }
}

// Planes of windows far apart are large: lists must not be made of offsets that 16 bits do not hold.
TEST_P(SparseTest, WideWindowsTakeCutsThatTheirListsReach) {
  for (const int64_t dilation : {1, 5, 9}) {
    ConvShape s;
    s.h = 7 * dilation;
    s.w = 2 * set->sparse_positions;
    s.c = 20;
    s.oc = 9;
    s.kh = 7;
    s.kw = 3;
    s.dilation_h = dilation;
    s.pad_top = s.pad_bottom = dilation;
    s.pad_left = s.pad_right = 1;
    CheckCodes(s, s, kSparse, {255, 1}, SparseCodes(s, 1, 11));
  }
}

PQI_INSTANTIATE(SparseTest);

}  // namespace
}  // namespace pqi::test
