// Products packed at run time equal the plain reference, and touch no byte beyond their operands.
#include "linear/matmul.h"

#include "base/aligned.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/guarded.h"

namespace pqi::test {
namespace {

using kernels::MatrixShape;

// Sizes below, at and above the tiles of every ISA, and lengths with every remainder of a block of k.
constexpr int64_t kRows[] = {1, 5, 12, 13, 31}, kColumns[] = {1, 8, 16, 17, 32, 33, 70}, kLengths[] = {0, 1, 3, 4, 7, 40};

class MatmulTest : public KernelTest {
 protected:
  template <typename Fn>
  void ForEachShape(Fn&& fn) {
    for (int64_t m : kRows) {
      for (int64_t n : kColumns) {
        for (int64_t k : kLengths) {
          for (bool transposed : {false, true}) fn(MatrixShape{m, n, k, transposed});
        }
      }
    }
  }
  // Runs all panels, each in two calls for half of the rows.
  template <typename Run>
  void RunAll(const Run& run, bool integer) {
    const MatrixShape& s = run.shape;
    AlignedBuffer<uint8_t> scratch(linear::MatmulScratchBytes(*set, integer, s));
    for (int64_t panel = 0; panel < linear::MatmulPanels(*set, integer, s.n); ++panel) {
      linear::RunMatmul(*set, run, panel, 0, s.m / 2, scratch.data());
      linear::RunMatmul(*set, run, panel, s.m / 2, s.m, scratch.data());
    }
  }
  Random random{1};
};

TEST_P(MatmulTest, MultipliesFloats) {
  ForEachShape([&](const MatrixShape& s) {
    const Guarded<float> a(random.Floats(s.m * s.k, -2, 2), GuardedBytes::kAtEnd), b(random.Floats(s.k * s.n, -2, 2), GuardedBytes::kAtEnd);
    const Guarded<float> got(static_cast<size_t>(s.m * s.n)), want(static_cast<size_t>(s.m * s.n));
    RunAll(linear::MatmulF32{s, a.data(), b.data(), got.data()}, false);
    kernels::reference::MatmulF32(s, a.data(), b.data(), want.data(), 0, s.m);
    ASSERT_EQ(FirstDifference(got.data(), want.data(), got.size()), -1) << s.m << " x " << s.n << " x " << s.k << ' ' << s.transposed;
  });
}

TEST_P(MatmulTest, MultipliesCodes) {
  ForEachShape([&](const MatrixShape& s) {
    const Guarded<uint8_t> a(random.Ints<uint8_t>(s.m * s.k, 0, 255), GuardedBytes::kAtEnd);
    const Guarded<uint8_t> b(random.Ints<uint8_t>(s.k * s.n, 0, 255), GuardedBytes::kAtEnd);
    for (int32_t zero_b : {0, 128, 255}) {
      for (const kernels::Output& o : {Floats(), Codes(3.0f, 100, 0, 255)}) {
        const size_t bytes = static_cast<size_t>(s.m * s.n) * (o.f32 ? 4 : 1);
        const Guarded<uint8_t> got(bytes), want(bytes);
        RunAll(linear::MatmulU8{s, a.data(), b.data(), 7, zero_b, 0.01f, o, got.data()}, true);
        kernels::reference::MatmulU8(s, a.data(), 7, b.data(), zero_b, 0.01f, o, want.data(), 0, s.m);
        ASSERT_EQ(FirstDifference(got.data(), want.data(), bytes), -1) << s.m << " x " << s.n << " x " << s.k << ' ' << s.transposed;
      }
    }
  });
}

TEST_P(MatmulTest, LargestSumsAreExact) {
  const MatrixShape s{2, 3, 33025, true};  // 33025 * 255 * 255 = 2147450625
  const std::vector<uint8_t> a(static_cast<size_t>(s.m * s.k), 255), b(static_cast<size_t>(s.n * s.k), 255);
  std::vector<float> got(6);
  RunAll(linear::MatmulU8{s, a.data(), b.data(), 0, 0, 1.0f, Floats(), got.data()}, true);
  for (float v : got) EXPECT_EQ(v, 2147450625.0f);
}

PQI_INSTANTIATE(MatmulTest);

}  // namespace
}  // namespace pqi::test
