// Softmax and normalization equal the plain reference for every length, alignment and special value.
#include "kernels/reference/softmax_norm.h"

#include <algorithm>

#include "tests/kernels/cases.h"
#include "tests/kernels/guarded.h"

namespace pqi::test {
namespace {

using kernels::NormalizeGroup;
using kernels::Output;

constexpr GuardedBytes::Placement kPlacements[] = {GuardedBytes::kAtEnd, GuardedBytes::kAtBegin};

std::vector<int64_t> Lengths() {
  std::vector<int64_t> lengths;
  for (int64_t n = 1; n <= 67; ++n) lengths.push_back(n);
  lengths.push_back(1021);
  return lengths;
}

class SoftmaxNormTest : public KernelTest {
 protected:
  void ExpectSoftmax(const std::vector<float>& values, bool log, const Output& o, GuardedBytes::Placement place) {
    const size_t n = values.size();
    const Guarded<float> x(values, place), got_e(n, place), want_e(n, place);
    const Guarded<uint8_t> got(n * (o.f32 ? 4 : 1), place), want(got.size(), place);
    set->softmax(x.data(), n, log, o, got_e.data(), got.data());
    kernels::reference::Softmax(x.data(), n, log, o, want_e.data(), want.data());
    ExpectSame(o, got, want);
  }
  void ExpectNormalized(NormalizeGroup group, const std::vector<float>& values, const Output& o, GuardedBytes::Placement place) {
    const Guarded<float> x(values, place), weight(random.Floats(static_cast<int64_t>(group.length), -2, 2), place);
    const Guarded<uint8_t> got(x.size() * (o.f32 ? 4 : 1), place), want(got.size(), place);
    group.x = x.data();
    for (const float* parameters : {static_cast<const float*>(nullptr), static_cast<const float*>(weight.data())}) {
      group.weight = parameters;
      group.bias = parameters;
      set->normalize(group, o, got.data());
      kernels::reference::Normalize(group, o, want.data());
      ExpectSame(o, got, want);
    }
  }
  static void ExpectSame(const Output& o, const Guarded<uint8_t>& got, const Guarded<uint8_t>& want) {
    const int64_t at =
        o.f32 ? FirstDifference(reinterpret_cast<const float*>(got.data()), reinterpret_cast<const float*>(want.data()), got.size() / 4)
              : FirstDifference(got.data(), want.data(), got.size());
    EXPECT_EQ(at, -1) << "of " << got.size() << " bytes";
  }
  Random random{1};
};

TEST_P(SoftmaxNormTest, SoftmaxOfEveryLength) {
  for (int64_t n : Lengths()) {
    for (GuardedBytes::Placement place : kPlacements) {
      const std::vector<float> values = random.Floats(n, -9, 9);
      for (const Output& o : {Floats(), Codes(1.0f / 256, 0, 0, 255), Codes(0.7f, 9, 1, 15)}) {
        ExpectSoftmax(values, false, o, place);
        ExpectSoftmax(values, true, o, place);
      }
    }
  }
}

TEST_P(SoftmaxNormTest, SoftmaxOfSpecialValues) {
  for (float special : {kNan, kInf, -kInf, 1e38f, -1e38f, 0.0f, -0.0f, 1e-40f}) {
    for (size_t at : {size_t{0}, size_t{15}, size_t{20}}) {
      std::vector<float> values = random.Floats(21, -200, 200);
      values[at] = special;
      ExpectSoftmax(values, false, Floats(), GuardedBytes::kAtEnd);
      ExpectSoftmax(values, true, Floats(), GuardedBytes::kAtEnd);
    }
    ExpectSoftmax(std::vector<float>(5, special), false, Floats(), GuardedBytes::kAtEnd);
  }
}

TEST_P(SoftmaxNormTest, SoftmaxMayUseItsOutputAsScratch) {
  const std::vector<float> values = random.Floats(37, -5, 5);
  std::vector<float> got(37), want(37), e(37);
  set->softmax(values.data(), 37, false, Floats(), got.data(), got.data());
  kernels::reference::Softmax(values.data(), 37, false, Floats(), e.data(), want.data());
  EXPECT_EQ(FirstDifference(got.data(), want.data(), 37), -1);
}

TEST_P(SoftmaxNormTest, NormalizesRowsOfEveryLength) {
  for (int64_t n : Lengths()) {
    for (GuardedBytes::Placement place : kPlacements) {
      NormalizeGroup row;
      row.length = row.stride = static_cast<size_t>(n);
      row.eps = 1e-5f;
      row.center = n % 2 == 0;
      for (const Output& o : {Floats(), Codes(0.03f, 117, 0, 255)}) ExpectNormalized(row, random.Floats(n, -3, 5), o, place);
    }
  }
}

TEST_P(SoftmaxNormTest, NormalizesGroupsOfChannels) {
  for (size_t length : {1, 3, 16, 17, 32}) {
    for (size_t pieces : {1, 2, 9, 20}) {
      NormalizeGroup group;
      group.length = group.stride = length;
      group.pieces = pieces;
      group.eps = 0.5f;
      for (const Output& o : {Floats(), Codes(0.03f, 117, 0, 255)}) {
        ExpectNormalized(group, random.Floats(static_cast<int64_t>(length * pieces), -3, 5), o, GuardedBytes::kAtEnd);
      }
    }
  }
}

TEST_P(SoftmaxNormTest, NormalizingWritesNothingBetweenThePieces) {
  NormalizeGroup group;
  group.length = 5;
  group.stride = 11;
  group.pieces = 3;
  group.eps = 1e-5f;
  const std::vector<float> x = random.Floats(27, -3, 3);
  std::vector<float> got(27, 7.0f), want(27, 7.0f);
  group.x = x.data();
  set->normalize(group, Floats(), got.data());
  kernels::reference::Normalize(group, Floats(), want.data());
  EXPECT_EQ(FirstDifference(got.data(), want.data(), 27), -1);
  EXPECT_EQ(got[5], 7.0f);
  EXPECT_EQ(got[21], 7.0f);
}

TEST_P(SoftmaxNormTest, NormalizesConstantAndSpecialRows) {
  for (float special : {0.3f, kNan, kInf, 1e30f, 1e-40f}) {
    for (float eps : {0.0f, 1e-5f}) {
      NormalizeGroup row;
      row.length = row.stride = 21;
      row.eps = eps;
      ExpectNormalized(row, std::vector<float>(21, special), Floats(), GuardedBytes::kAtEnd);
    }
  }
}

PQI_INSTANTIATE(SoftmaxNormTest);

}  // namespace
}  // namespace pqi::test
