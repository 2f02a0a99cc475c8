// What only the contents of constants show: bounds on accumulators, products of scales, entries of tables, indices.
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "ops/op.h"
#include "tests/runtime/model_builder.h"

namespace pqi::test {
namespace {

Result<std::shared_ptr<const Model>> LinearOf(size_t k, int8_t code, int quant_zero_point, int step, float weight_scale, float input_scale,
                                              std::vector<int32_t> base = {}) {
  ModelBuilder b;
  const int q = b.AddQuant(8, quant_zero_point, 0, 255, input_scale);
  const int64_t features = static_cast<int64_t>(k);
  const int x = b.AddInput("x", R"("N",)" + std::to_string(k), q);
  ModelBuilder::Constants constants{{"weight", b.AddCodes({1, features}, 8, "none", std::vector<int8_t>(k, code))},
                                    {"scale", b.AddFloats({1}, {weight_scale})}};
  if (!base.empty()) constants.emplace_back("base", b.AddInts({1}, base));
  b.AddOutput("y", b.AddNode("linear", {x}, -1, constants, R"("step":)" + std::to_string(step) + "," + kNoActivation));
  return b.Build();
}

void ExpectRefused(const Result<std::shared_ptr<const Model>>& model, const char* message) {
  ASSERT_FALSE(model.ok());
  EXPECT_EQ(model.status().code(), Code::kModelFormat);
  EXPECT_NE(model.status().message().find(message), std::string::npos) << model.status().message();
}

// Holds E3, E4.
TEST(Proofs, AnAccumulatorMayReachInt32MaxAndNoMore) {
  EXPECT_TRUE(LinearOf(65793, -128, 0, 1, 0.01f, 0.1f).ok());  // 65793 * 128 * 255 = 2147483520
  ExpectRefused(LinearOf(65794, -128, 0, 1, 0.01f, 0.1f), "channel 0");
  EXPECT_TRUE(LinearOf(131071, -128, 128, 1, 0.01f, 0.1f).ok());  // reach 128
  ExpectRefused(LinearOf(131072, -128, 128, 1, 0.01f, 0.1f), "2147483648");
  ExpectRefused(LinearOf(32898, -128, 0, 2, 0.01f, 0.1f), "accumulator");
}

TEST(Proofs, TheBaseCounts) {
  EXPECT_TRUE(LinearOf(100, 1, 0, 1, 0.01f, 0.1f, {-80000}).ok());
  ExpectRefused(LinearOf(100, 1, 0, 1, 0.01f, 0.1f, {-85000}), "accumulator");
  ExpectRefused(LinearOf(100, 1, 0, 1, 0.01f, 0.1f, {INT32_MIN}), "accumulator");
}

// Holds D7.
TEST(Proofs, ScaleProductsAreNormal) {
  const float tiny = std::ldexp(1.0f, -100);
  EXPECT_TRUE(LinearOf(4, 1, 0, 1, -0.5f, 0.1f).ok());  // BatchNorm may turn a scale negative
  ExpectRefused(LinearOf(4, 1, 0, 1, 0.0f, 0.1f), "normal");
  ExpectRefused(LinearOf(4, 1, 0, 1, std::ldexp(1.0f, -27), tiny), "normal");
  ExpectRefused(LinearOf(4, 1, 0, 1, std::ldexp(1.0f, 100), std::ldexp(1.0f, 100)), "normal");
}

TEST(Proofs, ExpandedWeightsAreFinite) {
  for (const float scale : {1e30f, 1e37f}) {
    ModelBuilder b;
    const int x = b.AddInput("x", R"("N",4)");
    const int w = b.AddCodes({1, 4}, 8, "none", {-128, 0, 1, 2});
    b.AddOutput("y", b.AddNode("linear", {x}, -1, {{"weight", w}, {"scale", b.AddFloats({1}, {scale})}},
                               std::string(R"("step":1,)") + kNoActivation));
    const auto model = b.Build();
    if (scale == 1e30f) {
      EXPECT_TRUE(model.ok()) << model.status().message();
    } else {
      ExpectRefused(model, "overflow");
    }
  }
}

Result<std::shared_ptr<const Model>> MatmulOf(const std::string& k, float scale, int zero_point) {
  ModelBuilder b;
  const int q = b.AddQuant(8, zero_point, 0, 255, scale);
  const int x = b.AddInput("x", "2," + k, q), y = b.AddInput("y", "3," + k, q);
  b.AddOutput("z", b.AddNode("matmul", {x, y}, -1, {}, R"("transpose_b":1)"));
  return b.Build();
}

TEST(Proofs, AProductOfMatricesFitsItsAccumulator) {
  EXPECT_TRUE(MatmulOf("33025", 0.1f, 0).ok());  // 33025 * 255 * 255 = 2147450625
  ExpectRefused(MatmulOf("33026", 0.1f, 0), "more than 2147483647");
  EXPECT_TRUE(MatmulOf("131071", 0.1f, 128).ok());
  ExpectRefused(MatmulOf("131072", 0.1f, 128), "more than 2147483647");
}

TEST(Proofs, ALengthThatIsNotKnownAtLoadIsHeldToTheBoundByEachRun) {
  const auto model = MatmulOf(R"("H")", 0.1f, 0);
  ASSERT_TRUE(model.ok()) << model.status().message();
  const auto shapes = [&](int64_t k) { return model.value()->Shapes(std::vector<ConcreteShape>{{2, k}, {3, k}}); };
  EXPECT_TRUE(shapes(33025).ok());
  ASSERT_FALSE(shapes(33026).ok());
  EXPECT_EQ(shapes(33026).status().code(), Code::kInvalidArgument);
}

TEST(Proofs, TheScaleOfAProductOfMatricesIsNormal) {
  EXPECT_TRUE(MatmulOf("4", std::ldexp(1.0f, -63), 0).ok());
  ExpectRefused(MatmulOf("4", std::ldexp(1.0f, -64), 0), "normal");
}

TEST(Proofs, TableEntriesOfUsedCodesAreInTheOutputsRange) {
  for (const int changed : {3, 16}) {
    ModelBuilder b;
    const int in = b.AddQuant(4, 0, 0, 15, 1), out = b.AddQuant(8, 10, 10, 20, 1);
    const int x = b.AddInput("x", R"("N",4)", in);
    std::vector<uint8_t> table(256, 12);
    table[static_cast<size_t>(changed)] = 21;
    b.AddOutput("y", b.AddNode("table", {x}, out, {{"table", b.AddBytes({256}, table)}}, ""));
    const auto model = b.Build();
    if (changed == 16) {
      EXPECT_TRUE(model.ok()) << model.status().message();  // no 4-bit code reads it
    } else {
      ExpectRefused(model, "entry 3 is 21");
    }
  }
}

TEST(Proofs, ExpandedRowsOfAnEmbeddingAreFinite) {
  for (const float scale : {1e30f, 1e37f}) {
    ModelBuilder b;
    const int x = b.AddIndices("x", R"("N")");
    const ModelBuilder::Constants table{{"weight", b.AddCodes({1, 4}, 8, "none", {-128, 0, 1, 2})}, {"scale", b.AddFloats({1}, {scale})}};
    b.AddOutput("y", b.AddNode("embedding", {x}, -1, table, R"("step":1)"));
    const auto model = b.Build();
    if (scale == 1e30f) {
      EXPECT_TRUE(model.ok()) << model.status().message();
    } else {
      ExpectRefused(model, "overflow");
    }
  }
}

// Kernels read f32 or u8; only these ops may ever see an i32 value.
TEST(Integers, AreRefusedByAllOpsThatDoNotTakeThem) {
  const std::set<std::string> take = {"embedding", "transpose", "reshape", "concat",  "slice",  "cumsum", "constant", "expand",
                                      "cast",      "compare",   "where",   "integer", "arange", "gather", "argmax"};
  Graph graph;
  graph.values = {{"x", DType::kI32, {}, -1}, {"y", DType::kF32, {}, -1}, {"i", DType::kI32, {}, -1}};
  for (const ops::Op* op : ops::AllOps()) {
    Node node;
    node.op = op->def.name;
    node.name = "n";
    for (const std::vector<uint32_t>& inputs : {std::vector<uint32_t>{0}, {0, 1}, {1, 0}, {0, 0}}) {
      node.inputs = inputs;
      node.outputs = {1};
      const Status status = op->def.check({graph, node});
      const bool names_dtype = status.message().find("must be f32 or u8, got i32") != std::string::npos;
      EXPECT_EQ(names_dtype, take.count(node.op) == 0) << node.op << ": " << status.message();
    }
    // One of these is the number of inputs that the op takes; only then is its output looked at.
    node.outputs = {2};
    bool refused = false;
    for (size_t count = 0; count <= 2; ++count) {
      node.inputs.assign(count, 1);
      refused |= op->def.check({graph, node}).message().find("output 'i' must be f32 or u8, got i32") != std::string::npos;
    }
    EXPECT_TRUE(refused || (take.count(node.op) != 0 && node.op != "embedding")) << node.op;
  }
}

}  // namespace
}  // namespace pqi::test
