#include "graph/conditions.h"

#include <gtest/gtest.h>

#include <limits>

#include "graph/parse.h"
#include "graph/serialize.h"
#include "graph/shapes.h"
#include "tests/graph/toy_model.h"

namespace pqi::test {
namespace {

constexpr int64_t kLeast = std::numeric_limits<int64_t>::min(), kMost = std::numeric_limits<int64_t>::max();

// A graph over x f32 [N, M] with these conditions (JSON).
std::string GraphWith(const std::string& conditions) {
  return Replaced(GraphText(R"(["N","M"])", F32Value("y", R"(["N","M"])"), NodeText("copy", "c", "0", "1"), 1, R"("N","M")"),
                  R"("quants":)", R"("conditions":[)" + conditions + R"(],"quants":)");
}

std::optional<int64_t> Applied(TermNode::Kind operation, int64_t a, int64_t b) {
  const Term term = {{TermNode::kSymbol, 0}, {TermNode::kSymbol, 1}, {operation, 0}};
  const std::vector<int64_t> numbers = {a, b};
  return Evaluate(term, numbers);
}

TEST(Conditions, DivisionRoundsDown) {
  for (int64_t a = -7; a <= 7; ++a) {
    for (int64_t b = -3; b <= 3; ++b) {
      const std::optional<int64_t> quotient = Applied(TermNode::kFloorDivide, a, b), remainder = Applied(TermNode::kModulo, a, b);
      ASSERT_EQ(quotient.has_value(), b != 0);
      ASSERT_EQ(remainder.has_value(), b != 0);
      if (b == 0) continue;
      EXPECT_EQ(*quotient * b + *remainder, a);
      EXPECT_TRUE(b > 0 ? *remainder >= 0 && *remainder < b : *remainder <= 0 && *remainder > b) << a << " % " << b;
    }
  }
}

TEST(Conditions, TermsThatLeaveInt64HaveNoNumber) {
  EXPECT_EQ(Applied(TermNode::kAdd, kMost, 1), std::nullopt);
  EXPECT_EQ(Applied(TermNode::kSubtract, kLeast, 1), std::nullopt);
  EXPECT_EQ(Applied(TermNode::kMultiply, kMost, 2), std::nullopt);
  EXPECT_EQ(Applied(TermNode::kFloorDivide, kLeast, -1), std::nullopt);
  EXPECT_EQ(Applied(TermNode::kModulo, kLeast, -1), std::nullopt);
  EXPECT_EQ(Applied(TermNode::kMinimum, kLeast, 3), kLeast);
  EXPECT_EQ(Applied(TermNode::kMaximum, kLeast, 3), 3);
}

struct Sizes {
  const char* condition;
  int64_t n, m;
  const char* message;  // null: the sizes are accepted
};

TEST(Conditions, AreAskedOfTheInputsSizes) {
  const Sizes cases[] = {
      {R"(["<=","N",4])", 4, 1, nullptr},
      {R"(["<=","N",4])", 5, 1, "N <= 4, and the inputs have N = 5"},
      {R"(["<",2,"M"])", 1, 3, nullptr},
      {R"(["<",2,"M"])", 1, 2, "2 < M, and the inputs have M = 2"},
      {R"(["!=","N",1])", 2, 1, nullptr},
      {R"(["!=","N",1])", 1, 1, "N != 1"},
      {R"(["==",["*",2,["//","N",2]],"N"])", 6, 1, nullptr},
      {R"(["==",["*",2,["//","N",2]],"N"])", 7, 1, "2 * (N // 2) == N, and the inputs have N = 7"},
      {R"(["==",["max","N",["min","M",3]],"N"])", 3, 9, nullptr},
      {R"(["==",["max","N",["min","M",3]],"N"])", 2, 9, "max(N, min(M, 3)) == N, and the inputs have N = 2, M = 9"},
      {R"(["==",["%",12,"N"],0])", 0, 1, "12 % N == 0"},
      {R"(["<=",["-","N","M"],["+","M",1]])", 5, 1, "N - M <= M + 1"},
      {R"(["<=",["*",["*",["*","N","N"],["*","N","N"]],"N"],9])", 1 << 20, 1, "(N * N)"},
  };
  for (const Sizes& row : cases) {
    Result<ParsedGraph> parsed = ParseGraph(GraphWith(row.condition), GraphSource::kFile);
    ASSERT_TRUE(parsed.ok()) << parsed.status().message();
    const auto shapes = InferConcreteShapes(parsed.value().graph, ToyOps, std::vector<ConcreteShape>{{row.n, row.m}});
    EXPECT_EQ(shapes.ok(), row.message == nullptr) << row.condition;
    if (row.message == nullptr) continue;
    EXPECT_EQ(shapes.status().code(), Code::kInvalidArgument);
    EXPECT_NE(shapes.status().message().find(row.message), std::string::npos) << shapes.status().message();
  }
}

// A graph over x f32 [N, M] with these sizes (JSON).
std::string GraphWithSizes(const std::string& sizes) {
  return Replaced(GraphText(R"(["N","M"])", F32Value("y", R"(["N","M"])"), NodeText("copy", "c", "0", "1"), 1, R"("N","M")"),
                  R"("quants":)", R"("sizes":[)" + sizes + R"(],"quants":)");
}

TEST(NamedSizes, StandBehindTheSymbolsAndHaveTheirNumbers) {
  Result<ParsedGraph> parsed = ParseGraph(GraphWithSizes(R"(["half",["//","N",2]],["gap",["-","M","N"]])"), GraphSource::kFile);
  ASSERT_TRUE(parsed.ok()) << parsed.status().message();
  const Graph& graph = parsed.value().graph;
  EXPECT_EQ(IndexOfName(graph, "M"), 1u);
  EXPECT_EQ(IndexOfName(graph, "gap"), 3u);
  EXPECT_EQ(IndexOfName(graph, "K"), std::nullopt);
  const auto numbers = BindNumbers(graph, std::vector<ConcreteShape>{{5, 7}});
  ASSERT_TRUE(numbers.ok()) << numbers.status().message();
  EXPECT_EQ(numbers.value(), (std::vector<int64_t>{5, 7, 2, 2}));
  const auto refused = BindNumbers(graph, std::vector<ConcreteShape>{{7, 5}});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.status().code(), Code::kInvalidArgument);
  EXPECT_NE(refused.status().message().find("the size M - N, which is -2 here: the inputs have N = 7, M = 5"), std::string::npos)
      << refused.status().message();
}

TEST(NamedSizes, AreRefusedWhereTheyAreMalformed) {
  const std::pair<const char*, const char*> rows[] = {
      {R"(["N",["//","N",2]])", "'N' is taken"},
      {R"(["a",1],["a",2])", "'a' is taken"},
      {R"(["?",1])", "'?' is taken"},
      {R"(["a",["//","K",2]])", "'K'"},
      {R"(["a"])", "a name and a term"},
      {R"([1,2])", "a name and a term"},
      {R"(["b",["//","a",2]])", "'a'"},
      {R"({"a":1})", "sizes[0]"},
  };
  for (const auto& [sizes, message] : rows) {
    const Result<ParsedGraph> parsed = ParseGraph(GraphWithSizes(sizes), GraphSource::kFile);
    ASSERT_FALSE(parsed.ok()) << sizes;
    EXPECT_NE(parsed.status().message().find(message), std::string::npos) << parsed.status().message();
  }
}

TEST(NamedSizes, AreWrittenAsTheyWereRead) {
  const std::string sizes = R"(["half",["//","N",2]],["one",1])";
  Result<ParsedGraph> parsed = ParseGraph(GraphWithSizes(sizes), GraphSource::kFile);
  ASSERT_TRUE(parsed.ok()) << parsed.status().message();
  const std::string written = SerializeGraph(parsed.value().graph, ScaleText::kOmit);
  EXPECT_NE(written.find(R"("sizes":[)" + sizes + "],"), std::string::npos) << written;
}

TEST(Conditions, AreWrittenAsTheyWereRead) {
  const std::string conditions = R"(["==",["*",2,["//","N",2]],["-","M",1]],["<",0,"N"])";
  Result<ParsedGraph> parsed = ParseGraph(GraphWith(conditions), GraphSource::kFile);
  ASSERT_TRUE(parsed.ok()) << parsed.status().message();
  const std::string written = SerializeGraph(parsed.value().graph, ScaleText::kOmit);
  EXPECT_NE(written.find(R"("conditions":[)" + conditions + "],"), std::string::npos) << written;
}

TEST(Conditions, RefusesWhatIsNone) {
  const char* const bad[] = {"7",
                             R"("N")",
                             "[]",
                             R"(["==","N"])",
                             R"(["==","N",1,1])",
                             R"(["=>","N",1])",
                             R"(["==","K",1])",
                             R"(["==",["^","N",2],1])",
                             R"(["==",["+","N"],1])",
                             R"([1,"N",1])",
                             R"(["==",{"N":1},1])"};
  for (const char* condition : bad) {
    const Result<ParsedGraph> parsed = ParseGraph(GraphWith(condition), GraphSource::kFile);
    ASSERT_FALSE(parsed.ok()) << condition;
    EXPECT_EQ(parsed.status().code(), Code::kModelFormat);
    EXPECT_NE(parsed.status().message().find("conditions[0]"), std::string::npos) << parsed.status().message();
  }
}

TEST(Conditions, RefusesMoreThanTheLimit) {
  std::string many = R"(["<",0,"N"])";
  for (int i = 0; i < 1024; ++i) many += R"(,["<",0,"N"])";
  EXPECT_FALSE(ParseGraph(GraphWith(many), GraphSource::kFile).ok());
}

TEST(Conditions, AFileThatDoesNotRequireThemIsRefused) {
  const std::string graph = Replaced(kToyGraph, R"("quants":)", R"("conditions":[["<",0,"N"]],"quants":)");
  const Result<LoadedModel> loaded = Load(ToyFileWithGraph(graph));
  ASSERT_FALSE(loaded.ok());
  EXPECT_NE(loaded.status().message().find("required features"), std::string::npos) << loaded.status().message();
}

TEST(Conditions, AWrittenFileRequiresThemAndItsSamplesFulfilThem) {
  const auto written = [](const std::string& condition) {
    const std::string draft = Replaced(kToyDraft, R"("quants":)", R"("conditions":[)" + condition + R"(],"quants":)");
    const Result<AlignedBuffer<uint8_t>> file = WriteGraph(draft, ToyConstants().Arrays(), "test", ToyOps);
    EXPECT_TRUE(file.ok()) << file.status().message();
    return Load(ToBytes(file.value().span()));
  };
  EXPECT_TRUE(written(R"(["<=","N",2])").ok());
  const Result<LoadedModel> broken = written(R"(["<=",3,"N"])");
  ASSERT_FALSE(broken.ok());
  EXPECT_NE(broken.status().message().find("samples[0]"), std::string::npos) << broken.status().message();
}

}  // namespace
}  // namespace pqi::test
