// linear_dynamic: all instruction sets, thread counts and row splits give the bits of the reference, for every tail and special value.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "runtime/machine.h"
#include "tests/runtime/model_builder.h"

namespace pqi::test {
namespace {

constexpr const char* kSmallestEps = "8388608";  // the smallest normal float

std::string Attrs(bool symmetric, bool per_tensor, int qmin, int qmax, int step, const std::string& activation,
                  const std::string& eps = kSmallestEps) {
  return std::string(R"("mapping":")") + (symmetric ? "symmetric" : "asymmetric") + R"(","granularity":")" +
         (per_tensor ? "tensor" : "row") + R"(","qmin":)" + std::to_string(qmin) + R"(,"qmax":)" + std::to_string(qmax) + R"(,"eps":)" +
         eps + R"(,"step":)" + std::to_string(step) + "," + activation;
}

struct Layer {
  std::shared_ptr<const Model> model;
  int64_t inputs = 0;
};

// Makes a layer of these sizes, of which all else is random.
Layer RandomLayer(std::mt19937* random, int64_t outputs, int64_t group_inputs, int64_t groups) {
  const auto pick = [&](int lo, int hi) { return std::uniform_int_distribution<int>(lo, hi)(*random); };
  ModelBuilder b;
  const int64_t inputs = group_inputs * groups, lines = outputs * groups;
  const int x = b.AddInput("x", "\"N\"," + std::to_string(inputs));
  const int bits = pick(2, 8);
  const char* packing = bits == 8 ? "none" : bits == 4 ? "nibble" : bits == 2 ? "trit5" : "dense";
  std::vector<float> scale = RandomFloats(random, static_cast<size_t>(lines), 0.001f, 0.1f);
  scale[0] = -scale[0];
  const bool vector_shape = groups == 1 && pick(0, 1);
  const std::vector<int64_t> shape = vector_shape ? std::vector<int64_t>{outputs} : std::vector<int64_t>{outputs, groups};
  ModelBuilder::Constants constants{
      {"weight", b.AddCodes({outputs, inputs}, bits, packing, RandomCodes(random, static_cast<size_t>(outputs * inputs), bits))},
      {"scale", b.AddFloats(shape, scale)}};
  if (pick(0, 1)) {
    constants.emplace_back("bias", b.AddFloats({outputs}, RandomFloats(random, static_cast<size_t>(outputs), -2, 2)));
  }
  if (pick(0, 1)) {
    std::vector<int32_t> base(static_cast<size_t>(lines));
    for (int32_t& v : base) v = pick(-20, 20);
    constants.emplace_back("base", b.AddInts(shape, base));
  }
  const int qmax = pick(0, 1) ? 255 : pick(3, 255);
  const std::string attrs = Attrs(pick(0, 1), pick(0, 2) == 0, pick(0, 2), qmax, pick(1, 2), pick(0, 1) ? kRelu : kNoActivation);
  const int quant = pick(0, 3) == 0 ? b.AddQuant(8, 100, 0, 255, 0.3f) : -1;
  b.AddOutput("y", b.AddNode("linear_dynamic", {x}, quant, constants, attrs));
  auto model = b.Build();
  EXPECT_TRUE(model.ok()) << model.status().message();
  return {std::move(model).value(), inputs};
}

// Makes ordinary rows, and one each of zeros, NaN, infinities, the largest and the smallest numbers, and of one sign only.
std::vector<float> Rows(std::mt19937* random, int64_t rows, int64_t inputs) {
  std::vector<float> x = RandomFloats(random, static_cast<size_t>(rows * inputs), -4, 4);
  constexpr float kMax = std::numeric_limits<float>::max();
  for (int64_t row = 0; row < rows; ++row) {
    float* at = x.data() + row * inputs;
    for (int64_t i = 0; i < inputs; ++i) {
      switch ((row + rows) % 11) {
        case 0:
          at[i] = -0.0f;
          break;
        case 1:
          if (i % 7 == 3) at[i] = std::nanf("");
          break;
        case 2:
          if (i == inputs / 2) at[i] = -std::numeric_limits<float>::infinity();
          break;
        case 3:
          at[i] = at[i] > 0 ? kMax : -kMax;
          break;
        case 4:
          at[i] *= 1e-44f;
          break;
        case 5:
          at[i] = std::fabs(at[i]);
          break;
        case 6:
          at[i] = -std::fabs(at[i]);
          break;
        case 7:
          at[i] = std::nanf("");
          break;
        default:
          break;
      }
    }
  }
  return x;
}

void ExpectReferencesBits(const Layer& layer, int64_t rows, std::mt19937* random) {
  const std::vector<float> x = Rows(random, rows, layer.inputs);
  const std::vector<const void*> inputs{x.data()};
  const std::vector<ConcreteShape> shape{{rows, layer.inputs}};
  const auto expected = RunModel(MakeSession(layer.model, 1, "reference").get(), shape, inputs);
  for (Isa isa : AvailableIsas()) {
    for (int threads : {1, 2, 3}) {
      const auto session = MakeSession(layer.model, threads, IsaName(isa));
      ASSERT_EQ(RunModel(session.get(), shape, inputs).outputs, expected.outputs) << IsaName(isa) << ", " << threads << " threads";
    }
  }
}

TEST(LinearDynamic, GivesTheReferencesBitsForEveryTail) {
  std::mt19937 random(3);
  for (int64_t i = 1; i <= 40; ++i) {
    const int64_t outputs = std::uniform_int_distribution<int64_t>(1, 70)(random), groups = i % 3 == 0 ? i % 4 + 1 : 1;
    const Layer layer = RandomLayer(&random, outputs, i, groups);
    for (const int64_t rows : {int64_t{1}, i, int64_t{13}}) {
      SCOPED_TRACE(std::to_string(rows) + " rows, " + std::to_string(groups) + " x " + std::to_string(i) + " to " +
                   std::to_string(outputs));
      ExpectReferencesBits(layer, rows, &random);
    }
  }
}

TEST(LinearDynamic, GivesTheReferencesBitsWhereThreadsSplitRowsOrChannelsAndBlocksFollowEachOther) {
  std::mt19937 random(4);
  struct Size {
    int64_t rows, outputs, group_inputs, groups;
  };
  for (const Size& s : {Size{1, 700, 1501, 1}, Size{2, 900, 32, 20}, Size{300, 33, 128, 1}, Size{70, 40, 3000, 2}, Size{250, 65, 16, 4}}) {
    for (int repeat = 0; repeat < 3; ++repeat) {
      SCOPED_TRACE(std::to_string(s.rows) + " rows to " + std::to_string(s.outputs));
      ExpectReferencesBits(RandomLayer(&random, s.outputs, s.group_inputs, s.groups), s.rows, &random);
    }
  }
}

Result<std::shared_ptr<const Model>> OneChannel(size_t k, int8_t code, const std::string& attrs, std::vector<int32_t> base = {}) {
  ModelBuilder b;
  const int x = b.AddInput("x", "\"N\"," + std::to_string(k));
  ModelBuilder::Constants constants{{"weight", b.AddCodes({1, static_cast<int64_t>(k)}, 8, "none", std::vector<int8_t>(k, code))},
                                    {"scale", b.AddFloats({1}, {0.01f})}};
  if (!base.empty()) constants.emplace_back("base", b.AddInts({1}, base));
  b.AddOutput("y", b.AddNode("linear_dynamic", {x}, -1, constants, attrs));
  return b.Build();
}

TEST(LinearDynamic, TheAccumulatorIsProvedForTheWorstZeroPoint) {
  const auto fits = [](size_t k, bool symmetric, std::vector<int32_t> base = {}) {
    return OneChannel(k, -128, Attrs(symmetric, false, 0, 255, 1, kNoActivation), std::move(base)).ok();
  };
  EXPECT_TRUE(fits(65793, false));  // 65793 * 128 * 255 = 2147483520
  EXPECT_FALSE(fits(65794, false));
  EXPECT_TRUE(fits(131071, true));  // reach 128
  EXPECT_FALSE(fits(131072, true));
  EXPECT_TRUE(fits(100, true, {-1000}));
  EXPECT_FALSE(fits(100, true, {INT32_MIN}));
}

TEST(LinearDynamic, TheLargestAccumulatorIsExact) {
  for (const bool symmetric : {false, true}) {
    const size_t k = symmetric ? 131071 : 65793;
    const auto model = OneChannel(k, -128, Attrs(symmetric, false, 0, 255, 1, kNoActivation));
    ASSERT_TRUE(model.ok());
    const std::vector<float> x(k, -3);
    for (Isa isa : AvailableIsas()) {
      const auto session = MakeSession(model.value(), 1, IsaName(isa));
      const std::vector<const void*> inputs{x.data()};
      const auto outputs = RunModel(session.get(), {{1, static_cast<int64_t>(k)}}, inputs).outputs;
      float y;
      std::memcpy(&y, outputs[0].data(), sizeof y);
      const double exact = 128.0 * 3 * 0.01 * static_cast<double>(k);
      EXPECT_NEAR(y, exact, exact * 0.005) << IsaName(isa);
    }
  }
}

TEST(LinearDynamic, ALayerSaysHowItRuns) {
  const auto model = OneChannel(8, 1, Attrs(true, false, 0, 127, 1, kNoActivation));
  ASSERT_TRUE(model.ok());
  const auto session = MakeSession(model.value(), 1, "auto");
  const LayerInfo layer = session->Layers().front();
  EXPECT_EQ(layer.act_bits, 7);
  EXPECT_EQ(layer.weight_bits, 8);
  const bool reference = session->isa() == Isa::kReference;
  EXPECT_EQ(layer.executed_as, reference ? "reference" : std::string("u8s8-dynamic-") + IsaName(session->isa()));
  EXPECT_GT(layer.weight_bytes, 0u);
}

}  // namespace
}  // namespace pqi::test
