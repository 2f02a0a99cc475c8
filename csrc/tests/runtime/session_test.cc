// Sessions: what a caller does with memory, threads, shapes, forks and floating-point modes never changes a bit.
#include "runtime/session.h"

#include <fenv.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>
#include <thread>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include "runtime/machine.h"
#include "tests/runtime/model_builder.h"

namespace pqi::test {
namespace {

constexpr int64_t kC = 3, kH = 13, kW = 11, kOut = 24;

// quantize -> conv 3x3 -> conv 3x3 with residual -> max pool -> mean -> linear to float; the second conv is an output too.
std::shared_ptr<const Model> Network() {
  std::mt19937 random(7);
  ModelBuilder b;
  const int q = b.AddQuant(8, 120, 0, 255, 0.02f), q1 = b.AddQuant(8, 0, 0, 255, 0.04f), q2 = b.AddQuant(8, 128, 0, 255, 0.05f);
  const int x = b.AddInput("x", R"("N",3,"H","W")");
  const int xq = b.AddNode("quantize", {x}, q, {}, R"("layout":"to_nhwc")");
  const auto conv = [&](const std::vector<int>& inputs, int64_t in, int quant) {
    const size_t count = static_cast<size_t>(kOut * 9 * in);
    const ModelBuilder::Constants constants{{"weight", b.AddCodes({kOut, 3, 3, in}, 8, "none", RandomCodes(&random, count, 8))},
                                            {"scale", b.AddFloats({kOut}, RandomFloats(&random, kOut, 0.0001f, 0.002f))},
                                            {"bias", b.AddFloats({kOut}, RandomFloats(&random, kOut, -1, 1))}};
    return b.AddNode("conv2d", inputs, quant, constants,
                     std::string(R"("stride":[1,1],"padding":[1,1,1,1],"dilation":[1,1],"groups":1,"step":1,)") + kRelu);
  };
  const int a = conv({xq}, kC, q1);
  const int r = conv({a, a}, kOut, q2);
  const int p = b.AddNode("max_pool2d", {r}, q2, {}, R"("kernel":[2,2],"stride":[2,2],"padding":[0,0,0,0],"dilation":[1,1],"ceil_mode":0)");
  const int m = b.AddNode("mean", {p}, q2, {}, R"("keepdim":0)");
  const int fc = b.AddNode("linear", {m}, -1,
                           {{"weight", b.AddCodes({5, kOut}, 4, "nibble", RandomCodes(&random, 5 * kOut, 4))},
                            {"scale", b.AddFloats({5}, RandomFloats(&random, 5, 0.01f, 0.02f))}},
                           std::string(R"("step":1,)") + kNoActivation);
  b.AddOutput("logits", fc);
  b.AddOutput("features", r);
  auto model = b.Build();
  EXPECT_TRUE(model.ok()) << model.status().message();
  return model.value();
}

ConcreteShape InputShape(int64_t batch) { return {batch, kC, kH, kW}; }
constexpr size_t kImage = static_cast<size_t>(kC * kH * kW);

class SessionTest : public testing::Test {
 protected:
  SessionTest() : model_(Network()) {
    std::mt19937 random(1);
    x_ = RandomFloats(&random, 5 * kImage, -3, 3);
    x_[3] = std::numeric_limits<float>::quiet_NaN();
    x_[5] = std::numeric_limits<float>::infinity();
    x_[8] = 1e-42f;  // a denormal, which some floating-point modes take for 0
    expected_ = Run(MakeSession(model_, 1, "reference").get(), x_.data(), 5);
  }

  static std::vector<std::vector<uint8_t>> Run(Session* session, const void* x, int64_t batch) {
    return RunModel(session, {InputShape(batch)}, {x}).outputs;
  }

  std::shared_ptr<const Model> model_;
  std::vector<float> x_;
  std::vector<std::vector<uint8_t>> expected_;
};

// Holds I2.
TEST_F(SessionTest, EveryIsaAndThreadCountGivesTheSameBits) {
  for (Isa isa : AvailableIsas()) {
    for (int threads : {1, 2, 3, 4, 9}) {
      EXPECT_EQ(Run(MakeSession(model_, threads, IsaName(isa)).get(), x_.data(), 5), expected_) << IsaName(isa) << " " << threads;
    }
  }
}

TEST_F(SessionTest, SplittingTheBatchGivesTheSameBits) {
  const auto session = MakeSession(model_, 2, "auto");
  std::vector<std::vector<uint8_t>> joined(2);
  int64_t at = 0;
  for (const int64_t batch : {2, 1, 2}) {
    const auto part = Run(session.get(), x_.data() + static_cast<size_t>(at) * kImage, batch);
    for (size_t i = 0; i < 2; ++i) joined[i].insert(joined[i].end(), part[i].begin(), part[i].end());
    at += batch;
  }
  EXPECT_EQ(joined, expected_);
}

// Holds B16.
TEST_F(SessionTest, AlignmentOfTheCallersMemoryDoesNotMatter) {
  const auto session = MakeSession(model_, 2, "auto");
  const std::vector<ConcreteShape> shapes{InputShape(5)};
  const auto plan = session->PlanFor(shapes);
  ASSERT_TRUE(plan.ok());
  for (size_t offset : {0, 1, 2, 3, 4, 31, 63}) {
    std::vector<uint8_t> in(x_.size() * 4 + 64), logits(expected_[0].size() + 64), features(expected_[1].size() + 64);
    std::memcpy(in.data() + offset, x_.data(), x_.size() * 4);
    const std::vector<const void*> inputs{in.data() + offset};
    const Graph& graph = model_->graph();
    const std::vector<Target> targets{{graph.outputs[0].value, logits.data() + offset}, {graph.outputs[1].value, features.data() + offset}};
    const Status status = session->Run(*plan.value(), inputs, targets);
    ASSERT_TRUE(status.ok()) << status.message();
    EXPECT_EQ(std::memcmp(logits.data() + offset, expected_[0].data(), expected_[0].size()), 0) << offset;
    EXPECT_EQ(std::memcmp(features.data() + offset, expected_[1].data(), expected_[1].size()), 0) << offset;
    EXPECT_TRUE(std::all_of(logits.begin() + static_cast<std::ptrdiff_t>(offset + expected_[0].size()), logits.end(),
                            [](uint8_t v) { return v == 0; }));
  }
}

// Holds I1.
TEST_F(SessionTest, ManyThreadsShareOneSession) {
  const auto session = MakeSession(model_, 3, "auto");
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int t = 0; t < 6; ++t) {
    callers.emplace_back([&, t] {
      for (int round = 0; round < 20; ++round) {
        const int64_t batch = 1 + (t + round) % 5;  // several shapes, so that plans come and go
        const auto got = Run(session.get(), x_.data(), batch);
        const size_t logits = expected_[0].size() / 5 * static_cast<size_t>(batch);
        wrong += got[0].size() != logits || std::memcmp(got[0].data(), expected_[0].data(), logits) != 0;
      }
    });
  }
  for (std::thread& t : callers) t.join();
  EXPECT_EQ(wrong, 0);
}

// Holds E15.
TEST_F(SessionTest, APlanWithoutReuseGivesTheSameBitsInMoreMemory) {
  const auto reuse = MakeSession(model_, 1, "auto"), shadow = MakeSession(model_, 1, "auto", ArenaReuse::kNoReuse);
  EXPECT_EQ(Run(reuse.get(), x_.data(), 5), expected_);
  EXPECT_EQ(Run(shadow.get(), x_.data(), 5), expected_);
  EXPECT_LT(reuse->Memory().arena_bytes, shadow->Memory().arena_bytes);
  EXPECT_GT(reuse->Memory().weight_bytes, 0u);
}

TEST_F(SessionTest, CapturingChangesNothing) {
  const auto session = MakeSession(model_, 2, "auto");
  const RunOutcome all = RunModel(session.get(), {InputShape(5)}, {x_.data()}, true);
  EXPECT_EQ(all.outputs, expected_);
  EXPECT_EQ(all.captured.back(), expected_[0]);
  EXPECT_EQ(all.captured[2], expected_[1]);
}

// Holds C5, I10.
TEST_F(SessionTest, TheCallersFloatingPointModeNeitherMattersNorChanges) {
  const auto session = MakeSession(model_, 2, "auto");
  for (int mode : {FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO}) {
    ASSERT_EQ(fesetround(mode), 0);
    const auto fresh = MakeSession(model_, 2, "auto");  // weights are packed under the mode too
    const auto got = Run(session.get(), x_.data(), 5), of_fresh = Run(fresh.get(), x_.data(), 5);
    const int after = fegetround();
    fesetround(FE_TONEAREST);
    EXPECT_EQ(after, mode);
    EXPECT_EQ(got, expected_);
    EXPECT_EQ(of_fresh, expected_);
  }
#if defined(__x86_64__)
  const unsigned before = _mm_getcsr();
  for (unsigned mode : {0x8000u, 0x0040u, 0x8040u, 0xE040u}) {  // flush to zero, denormals are zero, both, and rounding to zero too
    _mm_setcsr((before & ~0xE040u) | mode);
    const auto got = Run(session.get(), x_.data(), 5);
    const unsigned after = _mm_getcsr();
    _mm_setcsr(before);
    EXPECT_EQ(after & 0xE040u, mode);
    EXPECT_EQ(got, expected_) << mode;
  }
#endif
}

TEST_F(SessionTest, AnEmptyBatchGivesEmptyOutputs) {
  const auto session = MakeSession(model_, 2, "auto");
  const auto got = Run(session.get(), nullptr, 0);
  EXPECT_TRUE(got[0].empty());
  EXPECT_TRUE(got[1].empty());
}

#if !defined(__SANITIZE_THREAD__)
// Holds I4.
TEST_F(SessionTest, AForkedChildRunsAndCloses) {
  auto session = MakeSession(model_, 4, "auto");
  ASSERT_EQ(Run(session.get(), x_.data(), 5), expected_);
  std::atomic<bool> stop{false};
  std::thread busy([&] {  // the fork may find any lock of the session held
    while (!stop) Run(session.get(), x_.data(), 1 + rand() % 3);
  });
  for (int i = 0; i < 20; ++i) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      alarm(20);
      const bool same = Run(session.get(), x_.data(), 5) == expected_;
      session.reset();
      _exit(same ? 0 : 1);
    }
    int status = -1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0) << "fork " << i;
  }
  stop = true;
  busy.join();
}
#endif

TEST_F(SessionTest, RefusesShapesThatDoNotFit) {
  const auto session = MakeSession(model_, 1, "auto");
  for (const ConcreteShape& shape :
       {ConcreteShape{kC, kH, kW}, ConcreteShape{1, 4, kH, kW}, ConcreteShape{1, kC, 0, kW}, ConcreteShape{-1, kC, kH, kW},
        ConcreteShape{int64_t{1} << 40, kC, kH, kW}, ConcreteShape{1 << 30, kC, 1 << 30, kW}}) {
    const std::vector<ConcreteShape> shapes{shape};
    const auto plan = session->PlanFor(shapes);
    ASSERT_FALSE(plan.ok());
    EXPECT_EQ(plan.status().code(), Code::kInvalidArgument);
  }
  EXPECT_FALSE(session->PlanFor(std::vector<ConcreteShape>{}).ok());
}

TEST_F(SessionTest, RefusesOutputsThatOverlap) {
  const auto session = MakeSession(model_, 1, "auto");
  const std::vector<ConcreteShape> shapes{InputShape(1)};
  const auto plan = session->PlanFor(shapes);
  ASSERT_TRUE(plan.ok());
  const uint32_t logits = model_->graph().outputs[0].value, features = model_->graph().outputs[1].value;
  std::vector<uint8_t> memory(65536);
  const std::vector<const void*> inputs{x_.data()};
  for (const std::vector<Target>& targets :
       {std::vector<Target>{{logits, x_.data()}}, {{logits, memory.data()}, {features, memory.data() + 8}}, {{logits, nullptr}}}) {
    const Status status = session->Run(*plan.value(), inputs, targets);
    EXPECT_EQ(status.code(), Code::kInvalidArgument);
  }
}

TEST_F(SessionTest, RefusesOptionsOutOfRange) {
  for (int threads : {0, -1, 1025}) {
    SessionOptions options;
    options.threads = threads;
    EXPECT_EQ(Session::Create(model_, options).status().code(), Code::kInvalidArgument) << threads;
  }
  SessionOptions options;
  options.isa = "sse9";
  EXPECT_EQ(Session::Create(model_, options).status().code(), Code::kInvalidArgument);
#if defined(__x86_64__)
  options.isa = "neon";
#else
  options.isa = "avx2";
#endif
  const auto session = Session::Create(model_, options);
  EXPECT_EQ(session.status().code(), Code::kUnsupported);
  EXPECT_NE(session.status().message().find("reference"), std::string::npos);  // says what there is
}

TEST_F(SessionTest, CodesOutsideTheInputsRangeAreRefused) {
  ModelBuilder b;
  const int q = b.AddQuant(4, 1, 1, 14, 0.5f);
  b.AddOutput("y", b.AddNode("dequantize", {b.AddInput("x", R"("N",4)", q)}, -1, {}, R"("layout":"same")"));
  const auto model = b.Build();
  ASSERT_TRUE(model.ok()) << model.status().message();
  const auto session = MakeSession(model.value(), 1, "auto");
  const std::vector<ConcreteShape> shapes{{1, 4}};
  const auto plan = session->PlanFor(shapes);
  ASSERT_TRUE(plan.ok());
  for (const uint8_t code : std::initializer_list<uint8_t>{0, 1, 14, 15, 255}) {
    const uint8_t x[4] = {3, 4, code, 5};
    float y[4];
    const std::vector<const void*> inputs{x};
    const std::vector<Target> targets{{model.value()->graph().outputs[0].value, y}};
    EXPECT_EQ(session->Run(*plan.value(), inputs, targets).ok(), code >= 1 && code <= 14) << int{code};
  }
}

// Holds G21.
TEST(Indices, OutsideTheSmallestTableOfAnInputAreRefusedBeforeAnythingRuns) {
  ModelBuilder b;
  const int x = b.AddIndices("words", R"("N")");
  b.AddOutput("y", b.AddNode("embedding", {x}, -1, {{"weight", b.AddFloats({9, 2}, std::vector<float>(18, 1))}}, R"("step":1)"));
  b.AddOutput("z", b.AddNode("embedding", {x}, -1, {{"weight", b.AddFloats({4, 1}, {5, 6, 7, 8})}}, R"("step":1)"));
  const auto model = b.Build();
  ASSERT_TRUE(model.ok()) << model.status().message();
  const auto session = MakeSession(model.value(), 1, "reference");
  const auto plan = session->PlanFor(std::vector<ConcreteShape>{{3}});
  ASSERT_TRUE(plan.ok());
  uint8_t memory[3 * sizeof(int32_t) + 1];  // misaligned
  float y[6] = {}, z[3] = {};
  const std::vector<Target> targets{{1, y}, {2, z}};
  const auto run = [&](std::vector<int32_t> indices) {
    std::memcpy(memory + 1, indices.data(), 3 * sizeof(int32_t));
    const std::vector<const void*> data{memory + 1};
    return session->Run(*plan.value(), data, targets);
  };
  for (const int32_t wrong : {4, -1, INT32_MAX, INT32_MIN}) {
    const Status status = run({3, 0, wrong});
    EXPECT_EQ(status.code(), Code::kInvalidArgument);
    EXPECT_NE(status.message().find("input 'words': index " + std::to_string(wrong) + " at position 2 is outside [0, 4)"),
              std::string::npos)
        << status.message();
    EXPECT_EQ(z[0], 0.0f);
  }
  ASSERT_TRUE(run({3, 0, 2}).ok());
  EXPECT_EQ(std::vector<float>(z, z + 3), (std::vector<float>{8, 5, 7}));
}

TEST_F(SessionTest, LayersSayHowTheyRun) {
  const auto reference = MakeSession(model_, 1, "reference")->Layers();
  ASSERT_EQ(reference.size(), model_->graph().nodes.size());
  for (const LayerInfo& layer : reference)
    EXPECT_TRUE(layer.executed_as == "reference" || layer.executed_as == "copy") << layer.executed_as;
  const auto session = MakeSession(model_, 1, "auto");
  const LayerInfo fc = session->Layers().back();
  EXPECT_EQ(fc.name, "n5");
  EXPECT_EQ(fc.op, "linear");
  EXPECT_EQ(fc.weight_bits, 4);
  EXPECT_EQ(fc.act_bits, 8);
  const std::string name = std::string(session->isa() == Isa::kAmx ? "u8s8-matrix-" : "u8s8-") + IsaName(session->isa());
  EXPECT_EQ(fc.executed_as, session->isa() == Isa::kReference ? "reference" : name);
  EXPECT_GE(fc.weight_bytes, 5u * kOut);
}

TEST_F(SessionTest, ProfileTimesEveryNode) {
  const auto session = MakeSession(model_, 1, "auto");
  const std::vector<ConcreteShape> shapes{InputShape(1)};
  const auto plan = session->PlanFor(shapes);
  ASSERT_TRUE(plan.ok());
  const std::vector<const void*> inputs{x_.data()};
  const auto ms = session->Profile(*plan.value(), inputs, 3);
  ASSERT_TRUE(ms.ok());
  EXPECT_EQ(ms.value().size(), model_->graph().nodes.size());
  for (double t : ms.value()) EXPECT_GE(t, 0);
  EXPECT_FALSE(session->Profile(*plan.value(), inputs, 0).ok());
}

}  // namespace
}  // namespace pqi::test
