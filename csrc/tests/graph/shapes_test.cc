#include "graph/shapes.h"

#include <gtest/gtest.h>

#include "graph/parse.h"
#include "tests/graph/toy_model.h"

namespace pqi::test {
namespace {

// A draft graph with all shapes inferred.
Result<Graph> Infer(const std::string& text) {
  PQI_ASSIGN_OR_RETURN(ParsedGraph parsed, ParseGraph(text, GraphSource::kDraft));
  PQI_RETURN_IF_ERROR(InferShapes(&parsed.graph, parsed.shape_given, ToyOps));
  return std::move(parsed.graph);
}

// x [N, H, 8] -> copy -> half -> y [N, H, 4];  H is kept.
Graph SymbolicGraph() {
  return Infer(GraphText(R"(["N","H",8])", F32Value("a", "") + "," + F32Value("y", ""),
                         NodeText("copy", "c", "0", "1") + "," + NodeText("half", "h", "1", "2"), 2, R"("N","H")"))
      .value();
}

TEST(Shapes, KeepsSymbolsAndComputesNumbers) {
  const Graph graph = SymbolicGraph();
  EXPECT_EQ(ShapeText(graph, graph.values[1].shape), "[N, H, 8]");
  EXPECT_EQ(ShapeText(graph, graph.values[2].shape), "[N, H, 4]");
}

TEST(Shapes, DerivesWhatDependsOnASymbol) {
  const Result<Graph> graph = Infer(GraphText(R"(["N","H"])", F32Value("y", ""), NodeText("half", "h", "0", "1"), 1, R"("N","H")"));
  ASSERT_TRUE(graph.ok()) << graph.status().message();
  EXPECT_EQ(ShapeText(graph.value(), graph.value().values[1].shape), "[N, ?]");
}

TEST(Shapes, GivesConcreteShapesForConcreteInputs) {
  const Result<Graph> graph = Infer(GraphText(R"(["N","H"])", F32Value("y", ""), NodeText("half", "h", "0", "1"), 1, R"("N","H")"));
  const std::vector<ConcreteShape> input = {{3, 11}};
  const Result<std::vector<ConcreteShape>> shapes = InferConcreteShapes(graph.value(), ToyOps, input);
  ASSERT_TRUE(shapes.ok()) << shapes.status().message();
  EXPECT_EQ(shapes.value(), (std::vector<ConcreteShape>{{3, 11}, {3, 5}}));
}

TEST(Shapes, AcceptsAnEmptyBatch) {
  const std::vector<ConcreteShape> input = {{0, 7, 8}};
  const Result<std::vector<ConcreteShape>> shapes = InferConcreteShapes(SymbolicGraph(), ToyOps, input);
  ASSERT_TRUE(shapes.ok()) << shapes.status().message();
  EXPECT_EQ(shapes.value()[2], (ConcreteShape{0, 7, 4}));
}

struct CallRow {
  std::vector<ConcreteShape> inputs;
  const char* message;
};

// Holds B5, B6.
TEST(Shapes, RefusesTheCallersShapesWithBothShapesInTheMessage) {
  const Graph graph = SymbolicGraph();
  const CallRow rows[] = {
      {{}, "expected 1 inputs, got 0"},
      {{{1, 1, 8}, {1}}, "expected 1 inputs, got 2"},
      {{{1, 8}}, "input 'x': expected shape [N, H, 8], got [1, 8]"},
      {{{1, 1, 1, 8}}, "input 'x': expected shape [N, H, 8], got [1, 1, 1, 8]"},
      {{{1, 1, 9}}, "input 'x': expected shape [N, H, 8], got [1, 1, 9]"},
      {{{-1, 1, 8}}, "input 'x': expected shape [N, H, 8], got [-1, 1, 8]"},
      {{{int64_t{1} << 31, 1, 8}}, "input 'x': expected shape [N, H, 8], got [2147483648, 1, 8]"},
      {{{2'000'000, 2'000'000, 8}}, "input 'x': shape [2000000, 2000000, 8] is larger than 2^40 bytes"},
      {{{2147483647, 2147483647, 8}}, "is larger than 2^40 bytes"},
      {{{0, 2147483647, 8}}, ""},
  };
  for (const CallRow& row : rows) {
    const Status status = InferConcreteShapes(graph, ToyOps, row.inputs).status();
    EXPECT_EQ(status.code(), *row.message == '\0' ? Code::kOk : Code::kInvalidArgument) << row.message << ": " << status.message();
    EXPECT_NE(status.message().find(row.message), std::string::npos) << status.message();
  }
}

TEST(Shapes, AnOpsRefusalIsTheCallersFaultInASession) {
  const Result<Graph> graph = Infer(GraphText(R"(["H"])", F32Value("y", ""), NodeText("half", "h", "0", "1"), 1, R"("H")"));
  const std::vector<ConcreteShape> input = {{1}};
  const Status status = InferConcreteShapes(graph.value(), ToyOps, input).status();
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  EXPECT_NE(status.message().find("node 'h'"), std::string::npos) << status.message();
}

TEST(Shapes, ASymbolIsOneNumberInAllInputs) {
  const std::string text = R"({"symbols":["N"],"quants":[],"constants":[],"values":[)" + F32Value("a", R"(["N","N"])") + "," +
                           F32Value("b", R"(["N"])") + "," + F32Value("c", "") + "," + F32Value("d", "") + R"(],"nodes":[)" +
                           NodeText("copy", "p", "0", "2") + "," + NodeText("copy", "q", "1", "3") +
                           R"(],"inputs":[{"name":"a","value":0},{"name":"b","value":1}],)" +
                           R"("outputs":[{"name":"c","value":2},{"name":"d","value":3}],"samples":[]})";
  const Result<Graph> graph = Infer(text);
  ASSERT_TRUE(graph.ok()) << graph.status().message();
  const CallRow rows[] = {
      {{{2, 2}, {2}}, ""},
      {{{2, 3}, {2}}, "input 'a': expected shape [N, N], got [2, 3], but 'N' is 2 elsewhere in the inputs"},
      {{{2, 2}, {3}}, "input 'b': expected shape [N], got [3], but 'N' is 2 elsewhere in the inputs"},
  };
  for (const CallRow& row : rows) {
    const Status status = InferConcreteShapes(graph.value(), ToyOps, row.inputs).status();
    EXPECT_EQ(status.code(), *row.message == '\0' ? Code::kOk : Code::kInvalidArgument) << status.message();
    EXPECT_NE(status.message().find(row.message), std::string::npos) << status.message();
  }
}

TEST(Shapes, RefusesSizesBeyondTheLimitsWhenTheGraphIsRead) {  // G22
  const auto blow = [](const char* shape, const char* by, const char* symbols) {
    return Infer(GraphText(shape, F32Value("y", ""), NodeText("blow", "b", "0", "1", std::string(R"("by":)") + by), 1, symbols)).status();
  };
  EXPECT_EQ(blow("[1024,1024,1024,64]", "4", "").code(), Code::kOk);
  EXPECT_EQ(blow("[1024,1024,1024,64]", "5", "").code(), Code::kModelFormat);
  EXPECT_EQ(blow("[4]", "2147483647", "").code(), Code::kModelFormat);
  EXPECT_EQ(blow("[1]", "0", "").code(), Code::kModelFormat);
  EXPECT_EQ(blow(R"(["N",1048576,1048576,4])", "1", R"("N")").code(), Code::kModelFormat);
}

}  // namespace
}  // namespace pqi::test
