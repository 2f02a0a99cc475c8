// Max pools of codes equal the plain reference for every shape, on every kernel set, and touch nothing else.
#include <algorithm>

#include "kernels/reference/pool.h"
#include "ops/max_pool_codes.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/guarded.h"

namespace pqi::test {
namespace {

using kernels::PoolShape;

class MaxPoolTest : public KernelTest {
 protected:
  // Every window has a pixel inside the image, as the op's shape rule has it.
  static bool EveryWindowCovers(int64_t count, int64_t kernel, int64_t stride, int64_t pad, int64_t dilation, int64_t length) {
    for (int64_t i = 0; i < count; ++i) {
      bool covers = false;
      for (int64_t tap = 0; tap < kernel; ++tap) {
        const int64_t at = i * stride - pad + tap * dilation;
        covers |= at >= 0 && at < length;
      }
      if (!covers) return false;
    }
    return count > 0;
  }

  PoolShape RandomShape(int64_t largest) {
    for (;;) {
      PoolShape s;
      s.n = random.Int(1, 2);
      s.h = random.Int(1, largest);
      s.w = random.Int(1, largest);
      s.c = random.Int(1, 140);
      s.kh = random.Pick(std::vector<int64_t>{1, 2, 3, 3, 5, 20});
      s.kw = random.Pick(std::vector<int64_t>{1, 2, 3, 3, 5, 20});
      s.stride_h = random.Int(1, 4);
      s.stride_w = random.Int(1, 4);
      s.dilation_h = random.Int(1, 3);
      s.dilation_w = random.Int(1, 3);
      s.pad_top = random.Int(0, s.kh);
      s.pad_left = random.Int(0, s.kw);
      // There are as many windows as begin inside the image, and some reach beyond its end.
      s.out_h = (s.h - 1 + s.pad_top) / s.stride_h + 1;
      s.out_w = (s.w - 1 + s.pad_left) / s.stride_w + 1;
      if (EveryWindowCovers(s.out_h, s.kh, s.stride_h, s.pad_top, s.dilation_h, s.h) &&
          EveryWindowCovers(s.out_w, s.kw, s.stride_w, s.pad_left, s.dilation_w, s.w)) {
        return s;
      }
    }
  }

  void Check(const PoolShape& s) {
    const auto place = random.Coin() ? GuardedBytes::kAtEnd : GuardedBytes::kAtBegin;
    const size_t count = static_cast<size_t>(s.rows() * s.c);
    const Guarded<uint8_t> x(random.Ints<uint8_t>(s.n * s.h * s.w * s.c, 0, 255), place), got(count, place), want(count, place);
    kernels::reference::MaxPoolU8(s, x.data(), want.data(), 0, s.rows());
    const int64_t parts = random.Int(1, 3);
    for (int64_t i = 0; i < parts; ++i) {
      const Guarded<uint8_t> scratch(ops::MaxPoolCodesScratch(s), place);
      ops::MaxPoolCodes(*set, s, x.data(), got.data(), s.rows() * i / parts, s.rows() * (i + 1) / parts, scratch.data());
    }
    EXPECT_EQ(FirstDifference(got.data(), want.data(), count), -1)
        << s.n << " images " << s.h << "x" << s.w << "x" << s.c << ", kernel " << s.kh << "x" << s.kw << ", stride " << s.stride_h << "x"
        << s.stride_w << ", padding " << s.pad_top << " " << s.pad_left << ", dilation " << s.dilation_h << "x" << s.dilation_w;
  }

  Random random{1};
};

TEST_P(MaxPoolTest, EqualsReferenceOnRandomShapes) {
  for (int i = 0; i < 300; ++i) Check(RandomShape(13));
  for (int i = 0; i < 60; ++i) Check(RandomShape(40));
}

TEST_P(MaxPoolTest, PiecesOfARowJoinSeamlessly) {
  for (int64_t stride : {1, 2, 5}) {
    for (int64_t channels : {3, 64, 9000, 20000}) {  // one window at a time at last
      PoolShape s;
      s.h = 4;
      s.w = std::max<int64_t>((1 << 15) / channels, 9);
      s.c = channels;
      s.kh = s.kw = 3;
      s.stride_h = s.stride_w = stride;
      s.pad_top = s.pad_left = 1;
      s.out_h = (s.h - 1) / stride + 1;
      s.out_w = (s.w - 1) / stride + 1;
      Check(s);
    }
  }
}

PQI_INSTANTIATE(MaxPoolTest);

}  // namespace
}  // namespace pqi::test
