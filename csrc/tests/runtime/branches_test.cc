// Networks of branches, whose layers write into concats. No bit depends on whether they do.
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "tests/kernels/guarded.h"
#include "tests/runtime/layer_maker.h"
#include "tests/twins/twins.h"

namespace pqi::test {
namespace {

struct Network {
  std::shared_ptr<const Model> model;
  std::vector<std::pair<int, Ids>> joined;  // concats of codes along the channels, and their inputs
};

// Branches of `channels` outputs and fewer, a chain of concats, residuals, a layer that is copied, and layers that read what was joined.
Network MakeNetwork(int64_t channels, int bits) {
  LayerMaker m(bits);
  Network net;
  const auto join = [&](const Ids& from) {
    net.joined.emplace_back(m.Concat(from), from);
    return net.joined.back().first;
  };
  const int64_t few = channels / 2 + 1, c = LayerMaker::kC;
  const int a = m.Conv(m.x, channels), b = m.Conv(m.x, few, 3);
  const int before = m.Conv(m.x, channels, 3), residual = m.Conv(m.x, c, channels, 3, m.quant(), 1, before);
  const int pooled = m.Pool(m.x), depthwise = m.Conv(m.x, c, c, 5, m.quant(), c);
  const int inner = join({a, residual, depthwise}), width = static_cast<int>(2 * channels + c);
  const int y = join({inner, b, pooled}), all = static_cast<int>(width + few + c);
  const int next = m.Conv(y, all, channels, 3, m.quant()), point = m.Conv(y, all, few, 1, m.quant());
  const int z = join({point, next});
  net.model =
      m.Build({y, m.Conv(z, channels + few, 5, 3, m.quant()), join({m.Conv(z, channels + few, 9, 1, m.quant()), m.Conv(m.x, channels)})});
  return net;
}

std::vector<uint8_t> Codes(size_t count, int bits) {
  std::mt19937 random(11);
  std::vector<uint8_t> x(count);
  for (uint8_t& q : x) q = static_cast<uint8_t>(std::uniform_int_distribution<int>(0, (1 << bits) - 1)(random));
  return x;
}

// Gives all values of a run on the reference kernels. What a caller asks for is no view, so every value has memory of its own.
std::vector<std::vector<uint8_t>> Expected(const Network& net, const ConcreteShape& shape, const uint8_t* x) {
  const auto session = MakeSession(net.model, 1, "reference", ArenaReuse::kNoReuse);
  RunOutcome all = RunModel(session.get(), {shape}, {x}, true);
  for (const auto& [id, from] : net.joined) {  // what the concat must give is put together by hand
    const Graph& graph = net.model->graph();
    const size_t pixels = static_cast<size_t>(shape[0] * shape[1] * shape[2]);
    std::vector<uint8_t> want;
    for (size_t p = 0; p < pixels; ++p) {
      for (int input : from) {
        const std::vector<uint8_t>& piece = all.captured[static_cast<size_t>(input - 1)];
        const size_t n = piece.size() / pixels;
        want.insert(want.end(), piece.begin() + static_cast<std::ptrdiff_t>(p * n),
                    piece.begin() + static_cast<std::ptrdiff_t>((p + 1) * n));
      }
    }
    EXPECT_EQ(all.captured[static_cast<size_t>(id - 1)], want) << graph.values[static_cast<size_t>(id)].name;
  }
  return all.outputs;
}

// Gives the outputs of a run that writes them between guard pages.
void ExpectOutputs(Session* session, const ConcreteShape& shape, const uint8_t* x, const std::vector<std::vector<uint8_t>>& expected,
                   GuardedBytes::Placement place) {
  const std::vector<ConcreteShape> shapes{shape};
  const auto plan = session->PlanFor(shapes);
  ASSERT_TRUE(plan.ok()) << plan.status().message();
  std::vector<std::unique_ptr<GuardedBytes>> memory;
  std::vector<Target> targets;
  for (size_t i = 0; i < expected.size(); ++i) {
    memory.push_back(std::make_unique<GuardedBytes>(expected[i].size(), place));
    targets.push_back({session->model().graph().outputs[i].value, memory[i]->data()});
  }
  const std::vector<const void*> inputs{x};
  ASSERT_TRUE(session->Run(*plan.value(), inputs, targets).ok());
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(std::memcmp(memory[i]->data(), expected[i].data(), expected[i].size()), 0) << "output " << i;
  }
}

TEST(Branches, EverySetThreadCountAndWidthGivesTheReferencesBits) {
  const ConcreteShape shape{2, 9, 11, LayerMaker::kC};
  const std::vector<uint8_t> x = Codes(2 * 9 * 11 * LayerMaker::kC, 8);
  for (const int64_t channels : {1, 3, 5, 17, 33, 100}) {
    const Network net = MakeNetwork(channels, 8);
    const auto expected = Expected(net, shape, x.data());
    for (const TestedSet& set : RunnableSets()) {
      for (int threads : {1, 2, 3}) {
        SCOPED_TRACE(std::string(set.name) + " channels " + std::to_string(channels) + " threads " + std::to_string(threads));
        const auto session = MakeSession(net.model, threads, *set.set);
        ExpectOutputs(session.get(), shape, x.data(), expected, threads == 2 ? GuardedBytes::kAtBegin : GuardedBytes::kAtEnd);
      }
    }
  }
}

TEST(Branches, EveryAlgorithmGivesTheReferencesBits) {
  const ConcreteShape shape{2, 9, 11, LayerMaker::kC};
  const std::vector<uint8_t> x = Codes(2 * 9 * 11 * LayerMaker::kC, 4);
  size_t ran = 0;
  for (const int64_t channels : {5, 33, 100}) {
    const Network net = MakeNetwork(channels, 4);
    const auto expected = Expected(net, shape, x.data());
    for (const TestedSet& set : RunnableSets()) {
      for (const char* algorithm : {"direct", "fip", "deferred", "winograd", "winograd_fip", "winograd_deferred", "sparse"}) {
        for (int threads : {1, 2}) {
          SessionOptions options;
          options.threads = threads;
          options.plan.algorithm = algorithm;
          auto session = Session::Create(net.model, options, Selection{set.set, ""});
          if (!session.ok()) {
            EXPECT_EQ(session.status().code(), Code::kUnsupported);
            continue;
          }
          SCOPED_TRACE(std::string(set.name) + " " + algorithm + " channels " + std::to_string(channels));
          ExpectOutputs(session.value().get(), shape, x.data(), expected, threads == 2 ? GuardedBytes::kAtBegin : GuardedBytes::kAtEnd);
          ran += std::string(algorithm).find("winograd") == 0;
        }
      }
    }
  }
  EXPECT_TRUE(ran > 0 || !CpuSupports(Isa::kAvx2));
}

// Holds E15.
TEST(Branches, NeitherThePlanOfMemoryNorWhatACallerAsksForMatters) {
  const Network net = MakeNetwork(17, 8);
  const auto reuse = MakeSession(net.model, 2, "auto"), apart = MakeSession(net.model, 2, "auto", ArenaReuse::kNoReuse);
  for (const ConcreteShape& shape :
       {ConcreteShape{1, 5, 4, LayerMaker::kC}, ConcreteShape{3, 14, 9, LayerMaker::kC}, ConcreteShape{0, 5, 4, LayerMaker::kC}}) {
    const std::vector<uint8_t> x = Codes(static_cast<size_t>(shape[0] * shape[1] * shape[2] * shape[3]), 8);
    const auto expected = RunModel(MakeSession(net.model, 1, "reference").get(), {shape}, {x.data()}, true);
    for (Session* session : {reuse.get(), apart.get()}) {
      EXPECT_EQ(RunModel(session, {shape}, {x.data()}).outputs, expected.outputs);
      const RunOutcome all = RunModel(session, {shape}, {x.data()}, true);  // a caller who asks for all values leaves no view
      EXPECT_EQ(all.outputs, expected.outputs);
      EXPECT_EQ(all.captured, expected.captured);
    }
  }
  EXPECT_LT(reuse->Memory().arena_bytes, apart->Memory().arena_bytes);
}

TEST(Branches, FloatsGiveTheReferencesBits) {
  for (const int64_t channels : {1, 5, 17, 100}) {
    LayerMaker m;
    const int x = m.b.AddNode("dequantize", {m.x}, -1, {}, R"("layout":"same")");
    const int before = m.FloatConv(x, 7, channels, 1), y = m.FloatConv(x, 7, channels, 3, 1, before);
    const int inner = m.Concat({y, m.FloatConv(x, 7, 7, 3, 7)}, 3, -1);
    const int outer = m.Concat({m.FloatConv(x, 7, 3, 3), inner}, 3, -1);
    const auto model = m.Build({outer, m.FloatConv(outer, channels + 10, 4, 3)});
    const ConcreteShape shape{2, 6, 9, LayerMaker::kC};
    const std::vector<uint8_t> codes = Codes(2 * 6 * 9 * LayerMaker::kC, 8);
    const auto expected = RunModel(MakeSession(model, 1, "reference", ArenaReuse::kNoReuse).get(), {shape}, {codes.data()}, true);
    for (const TestedSet& set : RunnableSets()) {
      for (int threads : {1, 2}) {
        const auto session = MakeSession(model, threads, *set.set);
        EXPECT_EQ(session->Layers()[4].executed_as, "in place");
        EXPECT_EQ(session->Layers()[6].executed_as, "in place");
        EXPECT_EQ(RunModel(session.get(), {shape}, {codes.data()}).outputs, expected.outputs) << set.name << " " << channels;
        EXPECT_EQ(RunModel(session.get(), {shape}, {codes.data()}, true).captured, expected.captured) << set.name << " " << channels;
      }
    }
  }
}

// Joined along the batch, a value is contiguous in the output, though at any address: the ops that write it know of nothing.
TEST(Branches, AnyOpWritesAPieceOfABatch) {
  LayerMaker m;
  const int q = m.quant(), f = m.b.AddNode("dequantize", {m.x}, -1, {}, R"("layout":"same")");
  const auto node = [&](const char* op, const Ids& inputs, int quant, const std::string& attrs) {
    return m.b.AddNode(op, inputs, quant, {}, attrs);
  };
  const std::string window = R"("kernel":[3,3],"stride":[1,1],"padding":[1,1,1,1],"ceil_mode":0,"count_include_pad":0)";
  const std::string flip = R"("perm":[0,2,1,3])", scores = R"("causal":0,"log":0)";
  const int codes = m.Concat({m.Pool(m.x), node("avg_pool2d", {m.x}, q, window), node("add", {m.x, m.x}, q, kRelu),
                              node("transpose", {node("transpose", {m.x}, q, flip)}, q, flip), m.Conv(m.x, 7, 7, 3, q, 7),
                              node("quantize", {f}, q, R"("layout":"same")")},
                             0);
  const int floats =
      m.Concat({node("avg_pool2d", {m.x}, -1, window), node("softmax", {f}, -1, scores),
                node("unary", {f}, -1, R"("alpha":0,"function":"tanh")"), node("add", {f, m.x}, -1, kRelu), m.FloatConv(f, 7, 7, 3)},
               0, -1);
  const auto model = m.Build({m.Pool(codes), m.FloatConv(floats, 7, 2, 1)});
  for (const ConcreteShape& shape : {ConcreteShape{1, 3, 5, LayerMaker::kC}, ConcreteShape{3, 7, 5, LayerMaker::kC}}) {
    const std::vector<uint8_t> x = Codes(3 * 7 * 5 * LayerMaker::kC, 8);
    const auto expected = RunModel(MakeSession(model, 1, "reference", ArenaReuse::kNoReuse).get(), {shape}, {x.data()}, true);
    for (const TestedSet& set : RunnableSets()) {
      const auto session = MakeSession(model, 2, *set.set);
      size_t in_place = 0;
      for (const LayerInfo& layer : session->Layers()) in_place += layer.executed_as == "in place";
      EXPECT_EQ(in_place, 2u);
      EXPECT_EQ(RunModel(session.get(), {shape}, {x.data()}).outputs, expected.outputs) << set.name;
      EXPECT_EQ(RunModel(session.get(), {shape}, {x.data()}, true).captured, expected.captured) << set.name;
    }
  }
}

// A view that the caller asks for is none, and those inside it lie in the caller's memory.
TEST(Branches, ACallerMayAskForAnyOneValue) {
  const Network net = MakeNetwork(17, 8);
  const ConcreteShape shape{2, 5, 6, LayerMaker::kC};
  const std::vector<uint8_t> x = Codes(2 * 5 * 6 * LayerMaker::kC, 8);
  const auto expected = RunModel(MakeSession(net.model, 1, "reference", ArenaReuse::kNoReuse).get(), {shape}, {x.data()}, true);
  const auto session = MakeSession(net.model, 1, "auto");
  const auto plan = session->PlanFor(std::vector<ConcreteShape>{shape});
  ASSERT_TRUE(plan.ok());
  const uint32_t last = net.model->graph().outputs.back().value;
  for (uint32_t id = 1; id < last; ++id) {
    std::vector<uint8_t> value(expected.captured[id - 1].size()), output(expected.outputs.back().size());
    const std::vector<Target> targets{{id, value.data()}, {last, output.data()}};
    const std::vector<const void*> inputs{x.data()};
    ASSERT_TRUE(session->Run(*plan.value(), inputs, targets).ok());
    EXPECT_EQ(value, expected.captured[id - 1]) << "value " << id;
    EXPECT_EQ(output, expected.outputs.back()) << "value " << id;
  }
}

TEST(Branches, APieceMayBeEmpty) {
  LayerMaker m(8, R"("N",7)");
  const int other = m.b.AddInput("other", R"("H",7)", m.quant());
  const int y = m.Concat({m.Linear(m.x, 5), m.Linear(other, 5), m.Linear(m.x, 5)}, 0);
  const auto model = m.Build({m.Concat({y, y}, 1)});
  const auto reference = MakeSession(model, 1, "reference"), session = MakeSession(model, 2, "auto");
  EXPECT_EQ(session->Layers()[3].executed_as, "in place");
  const std::vector<uint8_t> x = Codes(5 * 7, 8);
  for (const auto& [n, h] : {std::pair<int64_t, int64_t>{3, 0}, {0, 5}, {2, 1}, {0, 0}}) {
    const std::vector<ConcreteShape> shapes{{n, 7}, {h, 7}};
    const RunOutcome expected = RunModel(reference.get(), shapes, {x.data(), x.data()}, true);
    EXPECT_EQ(expected.outputs[0].size(), static_cast<size_t>(2 * n + h) * 10);
    EXPECT_EQ(RunModel(session.get(), shapes, {x.data(), x.data()}).outputs, expected.outputs) << n << " " << h;
  }
}

// Captures values between the graph's inputs and outputs, a view among them, wherever the caller's memory begins.
TEST(Branches, ACallerGetsAnyValueInMemoryOfAnyAlignment) {
  LayerMaker m;
  const int x = m.b.AddNode("dequantize", {m.x}, -1, {}, R"("layout":"same")");
  const int a = m.FloatConv(x, 7, 5, 3), y = m.Concat({a, m.FloatConv(x, 7, 3, 1)}, 3, -1);
  int last = y;
  for (int i = 0; i < 4; ++i) last = m.FloatConv(last, 8, 8, 3);  // the values of these take the memory of those before
  const auto model = m.Build({last});
  const ConcreteShape shape{1, 6, 5, LayerMaker::kC};
  const std::vector<uint8_t> codes = Codes(6 * 5 * LayerMaker::kC, 8);
  const auto session = MakeSession(model, 2, "auto");
  const RunOutcome expected = RunModel(session.get(), {shape}, {codes.data()}, true);
  const auto plan = session->PlanFor(std::vector<ConcreteShape>{shape});
  ASSERT_TRUE(plan.ok());
  for (size_t offset : {0, 1, 2, 3}) {
    std::vector<std::vector<uint8_t>> memory;
    std::vector<Target> targets;
    for (int id : {x, a, y, last}) {
      memory.emplace_back(expected.captured[static_cast<size_t>(id - 1)].size() + offset);
      targets.push_back({static_cast<uint32_t>(id), memory.back().data() + offset});
    }
    const std::vector<const void*> inputs{codes.data()};
    ASSERT_TRUE(session->Run(*plan.value(), inputs, targets).ok());
    for (size_t i = 0; i < targets.size(); ++i) {
      const std::vector<uint8_t>& want = expected.captured[targets[i].value - 1];
      EXPECT_EQ(std::memcmp(targets[i].data, want.data(), want.size()), 0) << "value " << targets[i].value << " offset " << offset;
    }
  }
}

}  // namespace
}  // namespace pqi::test
