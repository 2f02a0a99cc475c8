// A kernel set that is wrong on this machine is found, named and left for a weaker one.
#include "runtime/self_check.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <string>

#include "runtime/machine.h"
#include "tests/runtime/breakage.h"
#include "tests/runtime/model_builder.h"
#include "tests/twins/twins.h"

namespace pqi::test {
namespace {

using kernels::KernelSet;

TEST(SelfCheck, PassesEveryKernelSet) {
  for (const TestedSet& set : RunnableSets()) EXPECT_EQ(FindWrongKernel(*set.set), "") << set.name;
}

template <int M = kernels::kMaxMr>
void BreakTilesOverLines(KernelSet* s) {
  s->u8s8_tile[M - 1] = [](const kernels::TileU8S8& t) noexcept {
    original->u8s8_tile[M - 1](t);
    if (t.tap_step != 0) Spoil(t.out);
  };
  s->f32_tile[M - 1] = [](const kernels::TileF32& t) noexcept {
    original->f32_tile[M - 1](t);
    if (t.tap_step != 0) Spoil(t.out);
  };
  if constexpr (M > 1) BreakTilesOverLines<M - 1>(s);
}

const Breakage kBreakages[] = {
    {"u8s8 tile of 1 rows",
     [](KernelSet* s) {
       s->u8s8_tile[0] = [](const kernels::TileU8S8& t) noexcept {
         original->u8s8_tile[0](t);
         Spoil(t.out);
       };
     }},
    {"u8s8 tile of 3 rows",
     [](KernelSet* s) {
       s->u8s8_tile[2] = [](const kernels::TileU8S8& t) noexcept {
         original->u8s8_tile[2](t);
         if (t.n < 8) Spoil(t.out);  // only a narrow panel is wrong
       };
     }},
    {"f32 tile of 2 rows",
     [](KernelSet* s) {
       s->f32_tile[1] = [](const kernels::TileF32& t) noexcept {
         original->f32_tile[1](t);
         Spoil(t.out + t.out_stride);
       };
     }},
    {"u8s8 tile under a 3x3 window",
     [](KernelSet* s) {  // over four pixels: one tile of four rows, or two of two
       s->u8s8_tile[1] = [](const kernels::TileU8S8& t) noexcept {
         original->u8s8_tile[1](t);
         if (t.taps > 1) Spoil(t.out);
       };
       if (s->u8s8.mr < 4) return;
       s->u8s8_tile[3] = [](const kernels::TileU8S8& t) noexcept {
         original->u8s8_tile[3](t);
         if (t.taps > 1) Spoil(t.out);
       };
     }},
    {"u8s8 matrix",
     [](KernelSet* s) {
       if (s->u8s8_matrix == nullptr) return;
       s->u8s8_matrix = [](const kernels::TileMatrixU8S8& band) noexcept {
         original->u8s8_matrix(band);
         if (band.pieces > 1) Spoil(band.epilogue.out);
       };
     }},
    {"u8s8 depthwise",
     [](KernelSet* s) {
       s->u8s8_depthwise = [](const kernels::DepthwiseU8S8& d) noexcept {
         original->u8s8_depthwise(d);
         Spoil(d.out);
       };
     }},
    {"u8s8 depthwise columns",
     [](KernelSet* s) {
       s->u8s8_depthwise_columns = [](const kernels::DepthwiseColumnsU8S8& d) noexcept {
         original->u8s8_depthwise_columns(d);
         if (d.stride == 2) Spoil(d.out);
       };
     }},
    {"f32 depthwise",
     [](KernelSet* s) {
       s->f32_depthwise = [](const kernels::DepthwiseF32& d) noexcept {
         original->f32_depthwise(d);
         Spoil(d.out);
       };
     }},
    {"quantize",
     [](KernelSet* s) {
       s->quantize = [](const float* x, uint8_t* y, size_t n, const kernels::Output& q) noexcept {
         original->quantize(x, y, n, q);
         if (n > 0) Spoil(y + n - 1);
       };
     }},
    {"quantize to NHWC",
     [](KernelSet* s) {
       s->quantize_to_nhwc = [](const float* x, size_t stride, size_t channels, size_t pixels, uint8_t* y,
                                const kernels::Output& q) noexcept {
         original->quantize_to_nhwc(x, stride, channels, pixels, y, q);
         Spoil(y);
       };
     }},
    {"range",
     [](KernelSet* s) {
       s->range = [](const float* x, size_t n, float* lo, float* hi) noexcept {
         original->range(x, n, lo, hi);
         Spoil(hi);
       };
     }},
    {"dequantize",
     [](KernelSet* s) {
       s->dequantize = [](const uint8_t* x, float* y, size_t n, const kernels::Affine& p) noexcept {
         original->dequantize(x, y, n, p);
         Spoil(y);
       };
     }},
    {"add of codes",
     [](KernelSet* s) {
       s->add_u8 = [](const uint8_t* a, const kernels::Affine& pa, const uint8_t* b, const kernels::Affine& pb, size_t n,
                      const kernels::Output& o, void* y) noexcept {
         original->add_u8(a, pa, b, pb, n, o, y);
         Spoil(y);
       };
     }},
    {"add of floats",
     [](KernelSet* s) {
       s->add_f32 = [](const float* a, const float* b, size_t n, const kernels::Output& o, void* y) noexcept {
         original->add_f32(a, b, n, o, y);
         Spoil(y);
       };
     }},
    {"elementary function 2",
     [](KernelSet* s) {
       s->unary = [](const float* x, size_t n, const kernels::Unary& f, const kernels::Output& o, void* y) noexcept {
         original->unary(x, n, f, o, y);
         if (f.function == kernels::UnaryFunction::kTanh) Spoil(y);
       };
     }},
    {"function of two operands 3",
     [](KernelSet* s) {
       s->binary = [](kernels::BinaryFunction f, const kernels::BinaryOperand& a, const kernels::BinaryOperand& b, size_t rows, size_t n,
                      const kernels::Output& o, void* y) noexcept {
         original->binary(f, a, b, rows, n, o, y);
         if (f == kernels::BinaryFunction::kDiv) Spoil(y);
       };
     }},
    {"prelu",
     [](KernelSet* s) {
       s->prelu = [](const float* x, float* y, size_t rows, size_t channels, const float* slope) noexcept {
         original->prelu(x, y, rows, channels, slope);
         Spoil(y);
       };
     }},
    {"affine",
     [](KernelSet* s) {
       s->affine = [](const float* x, float* y, size_t rows, size_t channels, const float* scale, const float* shift) noexcept {
         original->affine(x, y, rows, channels, scale, shift);
         Spoil(y);
       };
     }},
    {"clamp",
     [](KernelSet* s) {
       s->clamp = [](const float* x, float* y, size_t n, float lo, float hi) noexcept {
         original->clamp(x, y, n, lo, hi);
         Spoil(y);
       };
     }},
    {"softmax",
     [](KernelSet* s) {
       s->softmax = [](const float* x, size_t n, bool log, const kernels::Output& o, float* e, void* y) noexcept {
         original->softmax(x, n, log, o, e, y);
         if (log) Spoil(y);
       };
     }},
    {"normalization",
     [](KernelSet* s) {
       s->normalize = [](const kernels::NormalizeGroup& g, const kernels::Output& o, void* y) noexcept {
         original->normalize(g, o, y);
         Spoil(y);
       };
     }},
    {"table",
     [](KernelSet* s) {
       s->table = [](const uint8_t* x, uint8_t* y, size_t n, const uint8_t* table) noexcept {
         original->table(x, y, n, table);
         Spoil(y);
       };
     }},
    {"max",
     [](KernelSet* s) {
       s->max_u8 = [](const kernels::MaxU8& m) noexcept {
         original->max_u8(m);
         Spoil(m.y);
       };
     }},
    {"sum",
     [](KernelSet* s) {
       s->sum_u8 = [](const uint8_t* x, size_t stride, size_t count, int32_t* acc, size_t n) noexcept {
         original->sum_u8(x, stride, count, acc, n);
         Spoil(acc);
       };
     }},
    {"sum in lanes",
     [](KernelSet* s) {
       s->sum_lanes = [](const float* x, size_t stride, size_t count, size_t first, float* lanes, size_t n) noexcept {
         original->sum_lanes(x, stride, count, first, lanes, n);
         Spoil(lanes);
       };
     }},
    {"u8s8 tile over padded lines", [](KernelSet* s) { BreakTilesOverLines(s); }},
    {"f32 tile over padded lines",
     [](KernelSet* s) {
       BreakTilesOverLines(s);
       std::copy(std::begin(original->u8s8_tile), std::end(original->u8s8_tile), s->u8s8_tile);
     }},
#if defined(__x86_64__)
    {"tile of 1 rows over packed codes",
     [](KernelSet* s) {
       s->narrow.tile[0][0] = [](const kernels::NarrowTile& t) noexcept {
         original->narrow.tile[0][0](t);
         if (t.groups > 1) Spoil(t.sums);
       };
     }},
    {"tile over one group of packed codes",
     [](KernelSet* s) {
       s->narrow.tile[1][0] = [](const kernels::NarrowTile& t) noexcept {
         original->narrow.tile[1][0](t);
         if (t.groups == 1) Spoil(t.sums);
       };
     }},
    {"tile over unpacked codes",
     [](KernelSet* s) {
       s->narrow.unpack[1] = [](const kernels::UnpackNarrow& t) noexcept {
         original->narrow.unpack[1](t);
         Spoil(t.codes);
       };
     }},
#endif
};

class BrokenSet : public testing::Test {
 protected:
  void SetUp() override {
    const std::vector<Isa> isas = AvailableIsas();
    if (isas.size() < 2) GTEST_SKIP() << "no kernels but the reference's";
    weaker_ = kernels::GetKernelSet(isas[isas.size() - 2]);
    original = kernels::GetKernelSet(isas.back());
  }
  KernelSet Broken(const Breakage& breakage) const {
    KernelSet set = *original;
    breakage.apply(&set);
    return set;
  }
  const KernelSet* reference_ = kernels::GetKernelSet(Isa::kReference);
  const KernelSet* weaker_ = nullptr;
};

TEST_F(BrokenSet, IsFoundByTheNameOfItsFirstWrongKernel) {
  for (const Breakage& breakage : kBreakages) {
    if (std::string(breakage.name) == "u8s8 matrix" && original->u8s8_matrix == nullptr) continue;
    EXPECT_EQ(FindWrongKernel(Broken(breakage)), breakage.name);
  }
}

TEST_F(BrokenSet, IsReplacedByTheNextWeakerOne) {
  const KernelSet broken = Broken(kBreakages[0]);
  const Selection selection = SelectWorking(std::vector<const KernelSet*>{reference_, weaker_, &broken});
  EXPECT_EQ(selection.kernels, weaker_);
  EXPECT_EQ(selection.warning, std::string("on this machine the kernel 'u8s8 tile of 1 rows' for instruction set '") +
                                   IsaName(original->isa) + "' gives wrong results, so '" + IsaName(weaker_->isa) + "' is used");
}

TEST_F(BrokenSet, GivesWayToTheReferenceInTheEnd) {
  const KernelSet broken = Broken(kBreakages[0]), another = Broken(kBreakages[7]);
  const Selection selection = SelectWorking(std::vector<const KernelSet*>{reference_, &another, &broken});
  EXPECT_EQ(selection.kernels, reference_);
  EXPECT_NE(selection.warning.find("f32 depthwise"), std::string::npos) << selection.warning;
  EXPECT_NE(selection.warning.find("'reference' is used"), std::string::npos) << selection.warning;
}

TEST_F(BrokenSet, IsNotUsedByASession) {
  ModelBuilder b;
  const int q = b.AddQuant(8, 3, 0, 255, 0.05f);
  const int x = b.AddInput("x", R"("N",5)");
  b.AddOutput("y", b.AddNode("quantize", {x}, q, {}, R"("layout":"same")"));
  const auto model = b.Build();
  ASSERT_TRUE(model.ok()) << model.status().message();
  const float values[5] = {-1, 0, 0.3f, 4, 20};
  const KernelSet broken = Broken(kBreakages[8]);
  const auto run = [&](Session* session) { return RunModel(session, {{1, 5}}, {values}).outputs[0]; };
  const auto wrong = MakeSession(model.value(), 1, broken);
  const auto right = MakeSession(model.value(), 1, *reference_);
  EXPECT_NE(run(wrong.get()), run(right.get()));  // the breakage is one that this model shows

  auto session = Session::Create(model.value(), {}, SelectWorking(std::vector<const KernelSet*>{reference_, weaker_, &broken}));
  ASSERT_TRUE(session.ok()) << session.status().message();
  EXPECT_EQ(session.value()->isa(), weaker_->isa);
  EXPECT_NE(session.value()->warning().find("'quantize'"), std::string::npos) << session.value()->warning();
  EXPECT_EQ(run(session.value().get()), run(right.get()));
}

TEST(SelectKernels, WarnsOfNothingOnThisMachine) {
  for (Isa isa : AvailableIsas()) {
    const Result<Selection> selection = SelectKernels(IsaName(isa));
    ASSERT_TRUE(selection.ok()) << selection.status().message();
    EXPECT_EQ(selection.value().kernels->isa, isa);
    EXPECT_EQ(selection.value().warning, "");
  }
}

}  // namespace
}  // namespace pqi::test
