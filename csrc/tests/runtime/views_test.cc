// Tests which inputs of a concat are written in place.
#include "runtime/views.h"

#include <gtest/gtest.h>

#include <tuple>

#include "tests/runtime/layer_maker.h"
#include "tests/twins/twins.h"

namespace pqi::test {
namespace {

// Gives "executed_as: reason" of every concat, on the reference kernels unless others are given.
std::vector<std::string> Concats(LayerMaker* maker, const Ids& outputs, const std::string& isa = "reference") {
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
  LayerMaker m;
  EXPECT_EQ(Concats(&m, {m.Concat({m.Conv(m.x, 3), m.Conv(m.x, 5, 3)})}), Texts{kAll});
  LayerMaker linear(8, R"("N",5,7)");
  EXPECT_EQ(Concats(&linear, {linear.Concat({linear.Linear(linear.x, 3), linear.Linear(linear.x, 4)}, 2)}), Texts{kAll});
  LayerMaker floats;
  const int x = floats.b.AddNode("dequantize", {floats.x}, -1, {}, R"("layout":"same")");
  const int y = floats.Concat({floats.FloatConv(x, 7, 3, 1), floats.FloatConv(x, 7, 7, 3, 7)}, 3, -1);
  EXPECT_EQ(Concats(&floats, {y}), Texts{kAll});
}

TEST(Views, AValueThatSomethingElseReadsIsCopied) {
  LayerMaker m;
  const int a = m.Conv(m.x, 3), b = m.Conv(m.x, 5);
  EXPECT_EQ(Concats(&m, {m.Concat({a, b}), m.Pool(a)}), Texts{"copy: data movement, input 1 in place"});
  LayerMaker both;
  const int shared = both.Conv(both.x, 3);
  EXPECT_EQ(
      Concats(&both, {both.Concat({shared, both.Conv(both.x, 1)}), both.Concat({both.Conv(both.x, 2), shared, both.Conv(both.x, 1)})}),
      (Texts{"copy: data movement, input 1 in place", "copy: data movement, inputs 0, 2 in place"}));
}

TEST(Views, AnOutputOfTheGraphIsCopied) {
  LayerMaker m;
  const int a = m.Conv(m.x, 3);
  EXPECT_EQ(Concats(&m, {m.Concat({a, m.Conv(m.x, 5)}), a}), Texts{"copy: data movement, input 1 in place"});
}

TEST(Views, AValueGivenTwiceIsCopied) {
  LayerMaker m;
  const int a = m.Conv(m.x, 3);
  EXPECT_EQ(Concats(&m, {m.Concat({a, a})}), Texts{kNone});
}

TEST(Views, AnInputOfTheGraphIsCopied) {
  LayerMaker m;
  EXPECT_EQ(Concats(&m, {m.Concat({m.x, m.Conv(m.x, 5)})}), Texts{"copy: data movement, input 1 in place"});
}

// Holds E14.
TEST(Views, CodesThatTheConcatChangesAreCopied) {
  for (const auto& [zero_point, qmin, qmax, scale, kept] :
       {std::tuple<int, int, int, float, bool>{3, 1, 250, 0.05f, true}, {4, 0, 255, 0.05f, false}, {3, 0, 255, 0.06f, false}}) {
    LayerMaker m;
    const int other = m.b.AddQuant(8, zero_point, qmin, qmax, scale);
    const int y = m.Concat({m.Conv(m.x, 3), m.Conv(m.x, 7, 5, 1, other)});
    EXPECT_EQ(Concats(&m, {y}), Texts{kept ? kAll : "table: reference, input 0 in place"});
  }
  LayerMaker narrow;  // codes beyond the concat's own range
  const int y = narrow.Concat({narrow.Conv(narrow.x, 3), narrow.Conv(narrow.x, 4)}, 3, narrow.b.AddQuant(8, 3, 0, 254, 0.05f));
  EXPECT_EQ(Concats(&narrow, {y}), Texts{"table: reference"});
}

TEST(Views, OpsThatWriteNoRowsApartWriteIntoContiguousPiecesOnly) {
  const auto concat = [](const std::string& image, int axis) {
    LayerMaker m(8, image);
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

TEST(Views, BandsOfDepthwiseLayersAreInPlace) {
  for (const TestedSet& set : RunnableSets()) {
    LayerMaker m;
    const int y = m.Concat({m.Conv(m.x, 7, 7, 3, m.quant(), 7), m.Conv(m.x, 7, 7, 5, m.quant(), 7)});
    const auto session = MakeSession(m.Build({y}), 1, *set.set);
    EXPECT_EQ(session->Layers()[2].reason, "the nodes before it write into its output");
  }
}

TEST(Views, AConcatOfChannelsWritesIntoAnother) {
  LayerMaker m;
  int chain = m.Conv(m.x, 3);
  for (int i = 0; i < 3; ++i) chain = m.Concat({chain, m.Conv(m.x, 2)});
  EXPECT_EQ(Concats(&m, {chain}), (Texts{kAll, kAll, kAll}));
  LayerMaker lines;  // image rows one below the other are no pieces of pixels
  const auto two = [&] { return lines.Concat({lines.Conv(lines.x, 4), lines.Conv(lines.x, 4)}, 1); };
  const int upper = two(), lower = two();
  EXPECT_EQ(Concats(&lines, {lines.Concat({upper, lower})}), (Texts{kNone, kNone, kNone}));
}

TEST(Views, AReshapeFindsItsInputInItsPlaceUnlessOthersReadThat) {
  const auto reshaped = [](bool shared, bool computed) {
    LayerMaker m(8, "1,4,6,7");
    const int x = computed ? m.Conv(m.x, 3) : m.x;
    const int y = m.b.AddNode("reshape", {x}, m.quant(), {}, R"("shape":[1,24,"?"])");
    const auto session = MakeSession(m.Build(shared ? Ids{y, m.Pool(x)} : Ids{y}), 1, "reference");
    for (const LayerInfo& layer : session->Layers()) {
      if (layer.op == "reshape") return layer.executed_as;
    }
    return std::string("no reshape");
  };
  EXPECT_EQ(reshaped(false, true), "in place");
  EXPECT_EQ(reshaped(true, true), "copy");
  EXPECT_EQ(reshaped(false, false), "copy");
}

}  // namespace
}  // namespace pqi::test
