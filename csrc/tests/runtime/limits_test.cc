// Limits of a run, and what callers change while it goes on.
#include <gtest/gtest.h>

#include <cstring>
#include <functional>

#include "ops/schema.h"
#include "tests/runtime/model_builder.h"

namespace pqi::test {
namespace {

// Gives the options of a run that calls `before` with the number of each layer, from 0 on, and ends where it says true.
struct EachLayer {
  std::function<bool(int)> before;
  int layer = 0;

  RunOptions Options() {
    RunOptions options;
    options.cancelled = [](void* self) {
      auto& each = *static_cast<EachLayer*>(self);
      return each.before(each.layer++);
    };
    options.context = this;
    return options;
  }
};

// x f32 [N, 8] -> relu -> abs -> y f32 [N, 8].
std::shared_ptr<const Model> TwoLayers() {
  ModelBuilder b;
  const int x = b.AddInput("x", R"("N",8)");
  const int relu = b.AddNode("clamp", {x}, -1, {}, R"("lo":0,"hi":2139095040)");
  b.AddOutput("y", b.AddNode("unary", {relu}, -1, {}, R"("function":"abs","alpha":0)"));
  return std::move(b.Build()).value();
}

class Limits : public testing::Test {
 protected:
  Status Run(const RunOptions& options, int64_t batch = 4) {
    const std::vector<ConcreteShape> shapes{{batch, 8}};
    const auto plan = session_->PlanFor(shapes).value();
    std::vector<float> x(static_cast<size_t>(batch) * 8, 1.0f);
    y_.assign(x.size(), 0);
    const std::vector<const void*> inputs{x.data()};
    const std::vector<Target> targets{{model_->graph().outputs[0].value, y_.data()}};
    bytes_ = session_->RunBytes(*plan, targets);
    return session_->Run(*plan, inputs, targets, options);
  }

  const std::shared_ptr<const Model> model_ = TwoLayers();
  const std::unique_ptr<Session> session_ = MakeSession(model_, 1, "auto");
  std::vector<float> y_;
  size_t bytes_ = 0;
};

TEST_F(Limits, MemoryIsBoundedToTheByte) {
  ASSERT_TRUE(Run({}).ok());
  EXPECT_GE(bytes_, 3u * 4 * 8 * sizeof(float));  // the input, the value between the layers and the output
  RunOptions options;
  options.max_memory = bytes_;
  EXPECT_TRUE(Run(options).ok());
  options.max_memory = bytes_ - 1;
  const Status status = Run(options);
  EXPECT_EQ(status.code(), Code::kNoMemory);
  EXPECT_NE(status.message().find(std::to_string(bytes_) + " bytes, more than max_memory = " + std::to_string(bytes_ - 1)),
            std::string::npos)
      << status.message();
  EXPECT_NE(status.message().find("layer 'n0'"), std::string::npos) << status.message();
}

TEST_F(Limits, ShapesOfAnySizeAreRefusedBeforeAnythingIsAllocated) {
  const std::vector<ConcreteShape> shapes{{int64_t{1} << 30, 8}};  // 2^35 bytes per value
  const auto plan = session_->PlanFor(shapes).value();
  RunOptions options;
  options.max_memory = size_t{1} << 30;
  const uint8_t nowhere = 0;  // nothing is read or written, so it may stand for 2^35 bytes
  const std::vector<const void*> inputs{&nowhere};
  EXPECT_EQ(session_->Run(*plan, inputs, {}, options).code(), Code::kNoMemory);
  EXPECT_EQ(session_->CheckMemory(*plan, {}, options).code(), Code::kNoMemory);
}

TEST_F(Limits, ARunEndsBeforeTheLayerAtWhichItIsCancelled) {
  for (int at = 0; at < 3; ++at) {
    EachLayer each{[&](int layer) { return layer == at; }};
    const Status status = Run(each.Options());
    EXPECT_EQ(status.code(), at < 2 ? Code::kCancelled : Code::kOk);
    EXPECT_EQ(each.layer, at < 2 ? at + 1 : 2);  // asked once before each of the two layers, and no more after the answer
    EXPECT_EQ(status.ok(), y_[0] == 1.0f);
  }
  EXPECT_TRUE(Run({}).ok());  // the session goes on as before
}

// What a caller's other thread does at the worst moment: the values have passed every check, and no layer has read them.
TEST(ChangedInputs, AreReadAsTheyWereWhenTheyWereChecked) {
  ModelBuilder b;
  const int narrow = b.AddQuant(4, 8, 1, 14, 0.5f);
  const int codes = b.AddInput("codes", R"("N",4)", narrow), indices = b.AddIndices("indices", R"("N")");
  b.AddOutput("c", b.AddNode("dequantize", {codes}, -1, {}, R"("layout":"same")"));
  b.AddOutput("f", b.AddNode("embedding", {indices}, -1, {{"weight", b.AddFloats({3, 2}, {1, 2, 3, 4, 5, 6})}}, R"("step":1)"));
  b.AddOutput("e", b.AddNode("embedding", {indices}, -1,
                             {{"weight", b.AddCodes({3, 2}, 4, "nibble", {1, 2, 3, 4, 5, 6})}, {"scale", b.AddFloats({3}, {1, 1, 1})}},
                             R"("step":1)"));
  const auto model = std::move(b.Build()).value();
  for (const char* isa : {"reference", "auto"}) {
    const auto session = MakeSession(model, 2, isa);
    const std::vector<ConcreteShape> shapes{{2, 4}, {2}};
    const auto plan = session->PlanFor(shapes).value();
    std::vector<uint8_t> given_codes(8, 9);
    std::vector<int32_t> given_indices{2, 1};
    EachLayer each{[&](int) {
      given_codes.assign(8, 255);
      given_indices.assign(2, 1 << 30);
      return false;
    }};
    std::vector<float> c(8), f(4), e(4);
    const std::vector<const void*> inputs{given_codes.data(), given_indices.data()};
    const auto& outputs = model->graph().outputs;
    const std::vector<Target> targets{{outputs[0].value, c.data()}, {outputs[1].value, f.data()}, {outputs[2].value, e.data()}};
    ASSERT_TRUE(session->Run(*plan, inputs, targets, each.Options()).ok());
    EXPECT_EQ(c, std::vector<float>(8, 0.5f));
    EXPECT_EQ(f, (std::vector<float>{5, 6, 3, 4}));
    EXPECT_EQ(e, f);
    EXPECT_EQ(given_indices[0], 1 << 30);
  }
}

// Whatever numbers open dimensions turn out to be, the inferred dimension never contradicts them.
TEST(BroadcastDim, AgreesWithEveryNumberThatSymbolsMayStandFor) {
  const std::vector<Dim> dims{Dim::Fixed(1), Dim::Fixed(5), Dim::Fixed(7), Dim::Symbol(0), Dim::Symbol(1), Dim::Derived()};
  const std::vector<int64_t> numbers{0, 1, 5, 7};
  for (const Dim& a : dims) {
    for (const Dim& b : dims) {
      Dim symbolic;
      const bool fits = ops::BroadcastDim(a, b, &symbolic);
      for (int64_t s : numbers) {
        for (int64_t t : numbers) {
          for (int64_t u : numbers) {  // of a "?" the number is known only to the operand that has it
            const auto bind = [&](const Dim& d) { return d.fixed() ? d.value : d.kind == Dim::kDerived ? u : d.value == 0 ? s : t; };
            Dim concrete;
            if (!ops::BroadcastDim(Dim::Fixed(bind(a)), Dim::Fixed(bind(b)), &concrete)) continue;
            ASSERT_TRUE(fits);
            if (symbolic.kind != Dim::kDerived) EXPECT_EQ(bind(symbolic), concrete.value) << bind(a) << " and " << bind(b);
          }
        }
      }
    }
  }
}

TEST(OpenDimensions, ThatMeetBroadcastWhicheverIsOne) {
  ModelBuilder b;
  const int x = b.AddInput("x", R"("H",2)"), y = b.AddInput("y", R"("N",2)");
  const int p = b.AddInput("p", R"("H",2,3)"), q = b.AddInput("q", R"("N",3,2)");
  b.AddOutput("sum", b.AddNode("binary", {x, y}, -1, {}, R"("function":"add")"));
  b.AddOutput("product", b.AddNode("matmul", {p, q}, -1, {}, R"("transpose_b":0)"));
  const auto model = std::move(b.Build()).value();
  const auto session = MakeSession(model, 1, "auto");
  const std::vector<float> ones(60, 1);
  for (const auto& [s, n] : std::vector<std::pair<int64_t, int64_t>>{{1, 5}, {5, 1}, {5, 5}, {1, 1}}) {
    const auto outcome =
        RunModel(session.get(), {{s, 2}, {n, 2}, {s, 2, 3}, {n, 3, 2}}, {ones.data(), ones.data(), ones.data(), ones.data()});
    const auto count = static_cast<size_t>(std::max(s, n));
    EXPECT_EQ(outcome.outputs[0].size(), count * 2 * sizeof(float));
    EXPECT_EQ(outcome.outputs[1].size(), count * 4 * sizeof(float));
  }
  const std::vector<ConcreteShape> wrong{{2, 2}, {3, 2}, {2, 2, 3}, {3, 3, 2}};
  EXPECT_EQ(session->PlanFor(wrong).status().code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace pqi::test
