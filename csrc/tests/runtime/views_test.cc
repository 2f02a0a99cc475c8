// Concats whose inputs are written in place: which ones, and that no bit depends on it.
#include "runtime/views.h"

#include <gtest/gtest.h>

#include <cstring>

#include "runtime/machine.h"
#include "tests/kernels/guarded.h"
#include "tests/runtime/model_builder.h"
#include "tests/twins/twins.h"

namespace pqi::test {
namespace {

using Ids = std::vector<int>;

// Layers of codes over images of kC channels, and concats of them.
class Maker {
 public:
  static constexpr int64_t kC = 7;

  explicit Maker(int bits = 8, const std::string& image = R"("N","H","W",7)") : bits_(bits) {
    quant_ = b.AddQuant(bits, 3, 0, (1 << bits) - 1, 0.05f);
    x = b.AddInput("x", image, quant_);
  }

  // A square kernel over `c` channels that keeps the image's size. Depthwise where groups = c = oc.
  int Conv(int from, int64_t c, int64_t oc, int64_t kernel, int quant, int64_t groups = 1, int residual = -1) {
    const size_t count = static_cast<size_t>(oc * kernel * kernel * c / groups);
    const ModelBuilder::Constants constants{{"weight", b.AddCodes({oc, kernel, kernel, c / groups}, bits_, bits_ == 8 ? "none" : "nibble",
                                                                  RandomCodes(&random_, count, bits_))},
                                            {"scale", b.AddFloats({oc}, RandomFloats(&random_, static_cast<size_t>(oc), 0.001f, 0.01f))},
                                            {"bias", b.AddFloats({oc}, RandomFloats(&random_, static_cast<size_t>(oc), -1, 1))}};
    return Add("conv2d", Inputs(from, residual), quant, constants, ConvAttributes(kernel, groups));
  }
  int Conv(int from, int64_t oc, int64_t kernel = 1) { return Conv(from, kC, oc, kernel, quant_); }

  int FloatConv(int from, int64_t c, int64_t oc, int64_t kernel, int64_t groups = 1, int residual = -1) {
    const size_t count = static_cast<size_t>(oc * kernel * kernel * c / groups);
    const ModelBuilder::Constants constants{
        {"weight", b.AddFloats({oc, kernel, kernel, c / groups}, RandomFloats(&random_, count, -1, 1))}};
    return Add("conv2d", Inputs(from, residual), -1, constants, ConvAttributes(kernel, groups));
  }

  int Linear(int from, int64_t outputs) {
    return Add("linear", {from}, quant_,
               {{"weight", b.AddCodes({outputs, kC}, 8, "none", RandomCodes(&random_, static_cast<size_t>(outputs * kC), 8))},
                {"scale", b.AddFloats({outputs}, RandomFloats(&random_, static_cast<size_t>(outputs), 0.001f, 0.01f))}},
               std::string(R"("step":1,)") + kNoActivation);
  }

  int Pool(int from) {
    return Add("max_pool2d", {from}, quant_, {}, R"("kernel":[3,3],"stride":[1,1],"padding":[1,1,1,1],"dilation":[1,1],"ceil_mode":0)");
  }

  int Concat(const Ids& from, int axis, int quant) { return Add("concat", from, quant, {}, R"("axis":)" + std::to_string(axis)); }
  int Concat(const Ids& from, int axis = 3) { return Concat(from, axis, quant_); }

  int quant() const { return quant_; }

  std::shared_ptr<const Model> Build(const Ids& outputs) {
    for (int id : outputs) b.AddOutput("y" + std::to_string(id), id);
    auto model = b.Build();
    EXPECT_TRUE(model.ok()) << model.status().message();
    return model.value();
  }

  ModelBuilder b;
  int x;

 private:
  static std::string ConvAttributes(int64_t kernel, int64_t groups) {
    const std::string pad = std::to_string(kernel / 2);
    return R"("stride":[1,1],"padding":[)" + pad + "," + pad + "," + pad + "," + pad + R"(],"dilation":[1,1],"groups":)" +
           std::to_string(groups) + R"(,"step":1,)" + kRelu;
  }
  static Ids Inputs(int from, int residual) { return residual < 0 ? Ids{from} : Ids{from, residual}; }
  int Add(const std::string& op, const Ids& inputs, int quant, const ModelBuilder::Constants& constants, const std::string& attrs) {
    return b.AddNode(op, inputs, quant, constants, attrs);
  }

  int bits_, quant_;
  std::mt19937 random_{5};
};

// "executed_as: reason" of every concat, on the reference kernels unless others are given.
std::vector<std::string> Concats(Maker* maker, const Ids& outputs, const std::string& isa = "reference") {
  const auto session = MakeSession(maker->Build(outputs), 1, isa);
  std::vector<std::string> out;
  for (const LayerInfo& layer : session->Layers()) {
    if (layer.op == "concat") out.push_back(layer.executed_as + ": " + layer.reason);
  }
  return out;
}
using Texts = std::vector<std::string>;

const char* const kAll = "in place: the nodes before it write into its output";
const char* const kNone = "copy: data movement";

TEST(Views, ConvolutionsAndLinearLayersWriteIntoAConcat) {
  Maker m;
  EXPECT_EQ(Concats(&m, {m.Concat({m.Conv(m.x, 3), m.Conv(m.x, 5, 3)})}), Texts{kAll});
  Maker linear(8, R"("N",5,7)");
  EXPECT_EQ(Concats(&linear, {linear.Concat({linear.Linear(linear.x, 3), linear.Linear(linear.x, 4)}, 2)}), Texts{kAll});
  Maker floats;
  const int x = floats.b.AddNode("dequantize", {floats.x}, -1, {}, R"("layout":"same")");
  const int y = floats.Concat({floats.FloatConv(x, 7, 3, 1), floats.FloatConv(x, 7, 7, 3, 7)}, 3, -1);
  EXPECT_EQ(Concats(&floats, {y}), Texts{kAll});
}

TEST(Views, AValueThatSomethingElseReadsIsCopied) {
  Maker m;
  const int a = m.Conv(m.x, 3), b = m.Conv(m.x, 5);
  EXPECT_EQ(Concats(&m, {m.Concat({a, b}), m.Pool(a)}), Texts{"copy: data movement, input 1 in place"});
  Maker both;
  const int shared = both.Conv(both.x, 3);
  EXPECT_EQ(
      Concats(&both, {both.Concat({shared, both.Conv(both.x, 1)}), both.Concat({both.Conv(both.x, 2), shared, both.Conv(both.x, 1)})}),
      (Texts{"copy: data movement, input 1 in place", "copy: data movement, inputs 0, 2 in place"}));
}

TEST(Views, AnOutputOfTheGraphIsCopied) {
  Maker m;
  const int a = m.Conv(m.x, 3);
  EXPECT_EQ(Concats(&m, {m.Concat({a, m.Conv(m.x, 5)}), a}), Texts{"copy: data movement, input 1 in place"});
}

TEST(Views, AValueGivenTwiceIsCopied) {
  Maker m;
  const int a = m.Conv(m.x, 3);
  EXPECT_EQ(Concats(&m, {m.Concat({a, a})}), Texts{kNone});
}

TEST(Views, AnInputOfTheGraphIsCopied) {
  Maker m;
  EXPECT_EQ(Concats(&m, {m.Concat({m.x, m.Conv(m.x, 5)})}), Texts{"copy: data movement, input 1 in place"});
}

TEST(Views, CodesThatTheConcatChangesAreCopied) {
  for (const auto& [zero_point, qmin, qmax, scale, kept] :
       {std::tuple<int, int, int, float, bool>{3, 1, 250, 0.05f, true}, {4, 0, 255, 0.05f, false}, {3, 0, 255, 0.06f, false}}) {
    Maker m;
    const int other = m.b.AddQuant(8, zero_point, qmin, qmax, scale);
    const int y = m.Concat({m.Conv(m.x, 3), m.Conv(m.x, 7, 5, 1, other)});
    EXPECT_EQ(Concats(&m, {y}), Texts{kept ? kAll : "table: reference, input 0 in place"});
  }
  Maker narrow;  // codes beyond the concat's own range
  const int y = narrow.Concat({narrow.Conv(narrow.x, 3), narrow.Conv(narrow.x, 4)}, 3, narrow.b.AddQuant(8, 3, 0, 254, 0.05f));
  EXPECT_EQ(Concats(&narrow, {y}), Texts{"table: reference"});
}

TEST(Views, OpsThatWriteNoRowsApartWriteIntoContiguousPiecesOnly) {
  const auto concat = [](const std::string& image, int axis) {
    Maker m(8, image);
    return Concats(&m, {m.Concat({m.Conv(m.x, 7), m.Pool(m.x)}, axis)});
  };
  EXPECT_EQ(concat(R"("N","H","W",7)", 3), Texts{"copy: data movement, input 0 in place"});
  EXPECT_EQ(concat(R"("N","H","W",7)", 2), Texts{kNone});
  EXPECT_EQ(concat(R"("N","H","W",7)", 1), Texts{kNone});
  EXPECT_EQ(concat(R"("N","H","W",7)", 0), Texts{kAll});
  EXPECT_EQ(concat(R"(1,"H","W",7)", 1), Texts{kAll});
  EXPECT_EQ(concat(R"(1,"H","W",7)", 2), Texts{kNone});
  EXPECT_EQ(concat(R"(1,1,"W",7)", 2), Texts{kAll});
  EXPECT_EQ(concat("1,1,1,7", 3), Texts{kAll});
}

TEST(Views, BandsOfDepthwiseLayersAreCopied) {
  for (const TestedSet& set : RunnableSets()) {
    Maker m;
    const int y = m.Concat({m.Conv(m.x, 7, 7, 3, m.quant(), 7), m.Conv(m.x, 7, 7, 5, m.quant(), 7)});
    const auto session = MakeSession(m.Build({y}), 1, *set.set);
    const LayerInfo concat = session->Layers()[2];
    EXPECT_EQ(concat.reason,
              set.set->u8s8_depthwise == nullptr ? "the nodes before it write into its output" : "data movement, input 1 in place");
  }
}

TEST(Views, AConcatOfChannelsWritesIntoAnother) {
  Maker m;
  int chain = m.Conv(m.x, 3);
  for (int i = 0; i < 3; ++i) chain = m.Concat({chain, m.Conv(m.x, 2)});
  EXPECT_EQ(Concats(&m, {chain}), (Texts{kAll, kAll, kAll}));
  Maker lines;  // image rows one below the other are no pieces of pixels
  const auto two = [&] { return lines.Concat({lines.Conv(lines.x, 4), lines.Conv(lines.x, 4)}, 1); };
  const int upper = two(), lower = two();
  EXPECT_EQ(Concats(&lines, {lines.Concat({upper, lower})}), (Texts{kNone, kNone, kNone}));
}

// Networks of branches, and what they must give.

struct Network {
  std::shared_ptr<const Model> model;
  std::vector<std::pair<int, Ids>> joined;  // concats of codes along the channels, and their inputs
};

// Branches of `channels` outputs and fewer, a chain of concats, residuals, a layer that is copied, and layers that read what was joined.
Network Branches(int64_t channels, int bits) {
  Maker m(bits);
  Network net;
  const auto join = [&](const Ids& from) {
    net.joined.emplace_back(m.Concat(from), from);
    return net.joined.back().first;
  };
  const int64_t few = channels / 2 + 1, c = Maker::kC;
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

// All values of a run on the reference kernels that keeps every value in memory of its own: what the caller asks for is no view.
std::vector<std::vector<uint8_t>> Expected(const Network& net, const ConcreteShape& shape, const uint8_t* x) {
  const auto session = MakeSession(net.model, 1, "reference", ArenaReuse::kNoReuse);
  RunOutcome all = RunModel(session.get(), {shape}, {x}, true);
  for (const auto& [id, from] : net.joined) {  // by hand
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

// The outputs, written between guard pages.
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

TEST(Views, EverySetThreadCountAndWidthGivesTheReferencesBits) {
  const ConcreteShape shape{2, 9, 11, Maker::kC};
  const std::vector<uint8_t> x = Codes(2 * 9 * 11 * Maker::kC, 8);
  for (const int64_t channels : {1, 3, 5, 17, 33, 100}) {
    const Network net = Branches(channels, 8);
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

TEST(Views, EveryAlgorithmGivesTheReferencesBits) {
  const ConcreteShape shape{2, 9, 11, Maker::kC};
  const std::vector<uint8_t> x = Codes(2 * 9 * 11 * Maker::kC, 4);
  size_t ran = 0;
  for (const int64_t channels : {5, 33, 100}) {
    const Network net = Branches(channels, 4);
    const auto expected = Expected(net, shape, x.data());
    for (const TestedSet& set : RunnableSets()) {
      for (const char* algorithm : {"direct", "fip", "deferred", "winograd", "winograd_fip", "winograd_deferred"}) {
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
  if (CpuSupports(Isa::kAvx2)) EXPECT_GT(ran, 0u);
}

TEST(Views, NeitherThePlanOfMemoryNorWhatACallerAsksForMatters) {
  const Network net = Branches(17, 8);
  const auto reuse = MakeSession(net.model, 2, "auto"), apart = MakeSession(net.model, 2, "auto", ArenaReuse::kNoReuse);
  for (const ConcreteShape& shape :
       {ConcreteShape{1, 5, 4, Maker::kC}, ConcreteShape{3, 14, 9, Maker::kC}, ConcreteShape{0, 5, 4, Maker::kC}}) {
    const std::vector<uint8_t> x = Codes(static_cast<size_t>(shape[0] * shape[1] * shape[2] * shape[3]), 8);
    const auto expected = RunModel(MakeSession(net.model, 1, "reference").get(), {shape}, {x.data()}, true);
    for (Session* session : {reuse.get(), apart.get()}) {
      EXPECT_EQ(RunModel(session, {shape}, {x.data()}).outputs, expected.outputs);
      const RunOutcome all = RunModel(session, {shape}, {x.data()}, true);  // now nothing is a view
      EXPECT_EQ(all.outputs, expected.outputs);
      EXPECT_EQ(all.captured, expected.captured);
    }
  }
  EXPECT_LT(reuse->Memory().arena_bytes, apart->Memory().arena_bytes);
}

TEST(Views, FloatsGiveTheReferencesBits) {
  for (const int64_t channels : {1, 5, 17, 100}) {
    Maker m;
    const int x = m.b.AddNode("dequantize", {m.x}, -1, {}, R"("layout":"same")");
    const int before = m.FloatConv(x, 7, channels, 1), y = m.FloatConv(x, 7, channels, 3, 1, before);
    const int inner = m.Concat({y, m.FloatConv(x, 7, 7, 3, 7)}, 3, -1);
    const int outer = m.Concat({m.FloatConv(x, 7, 3, 3), inner}, 3, -1);
    const auto model = m.Build({outer, m.FloatConv(outer, channels + 10, 4, 3)});
    const ConcreteShape shape{2, 6, 9, Maker::kC};
    const std::vector<uint8_t> codes = Codes(2 * 6 * 9 * Maker::kC, 8);
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

// Values between the graph's inputs and outputs, a view among them, wherever the caller's memory begins.
TEST(Views, ACallerGetsAnyValueInMemoryOfAnyAlignment) {
  Maker m;
  const int x = m.b.AddNode("dequantize", {m.x}, -1, {}, R"("layout":"same")");
  const int a = m.FloatConv(x, 7, 5, 3), y = m.Concat({a, m.FloatConv(x, 7, 3, 1)}, 3, -1);
  int last = y;
  for (int i = 0; i < 4; ++i) last = m.FloatConv(last, 8, 8, 3);  // whose values take the place of those before
  const auto model = m.Build({last});
  const ConcreteShape shape{1, 6, 5, Maker::kC};
  const std::vector<uint8_t> codes = Codes(6 * 5 * Maker::kC, 8);
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
