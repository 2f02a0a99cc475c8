#include "graph/write.h"

#include <gtest/gtest.h>

#include <functional>

#include "tests/graph/toy_model.h"

namespace pqi::test {
namespace {

Result<AlignedBuffer<uint8_t>> Write(const std::string& draft, const ToyConstants& constants = {}) {
  return WriteGraph(draft, constants.Arrays(), "test", ToyOps);
}

TEST(Write, FillsInShapesAndGivesEqualBytesForEqualInput) {
  const Result<AlignedBuffer<uint8_t>> a = Write(kToyDraft), b = Write(kToyDraft);
  ASSERT_TRUE(a.ok()) << a.status().message();
  EXPECT_EQ(ToBytes(a.value().span()), ToBytes(b.value().span()));
}

TEST(Write, ACompleteGraphGivesTheSameFileAsADraft) { EXPECT_EQ(ToBytes(Write(kToyGraph).value().span()), ToyFile()); }

struct Row {
  const char* name;
  Code code;
  const char* message;
  std::function<void(std::string* draft, ToyConstants* constants, std::vector<LogicalArray>* arrays)> change;
};

TEST(Write, RefusesWhatDoesNotFit) {
  const Row rows[] = {
      {"too few constants", Code::kInvalidArgument, "expected 5 constants, got 4", [](auto*, auto*, auto* a) { a->pop_back(); }},
      {"wrong type", Code::kInvalidArgument, "'fc.weight': expected int8[3, 5], got uint8[3, 5]",
       [](auto*, auto*, auto* a) { (*a)[1].type = ConstType::kU8; }},
      {"wrong shape", Code::kInvalidArgument, "'fc.scale': expected float32[3], got float32[3, 1]",
       [](auto*, auto*, auto* a) { (*a)[2].shape = {3, 1}; }},
      {"wrong size", Code::kInvalidArgument, "'fc.scale': expected 12 bytes, got 11",
       [](auto*, auto*, auto* a) { (*a)[2].bytes = {(*a)[2].bytes.data(), 11}; }},
      {"code out of range", Code::kInvalidArgument, "'fc.weight': code 8 at element 3 is outside [-8, 7]",
       [](auto*, auto* c, auto*) { c->weight[3] = 8; }},
      {"given shape that is wrong", Code::kModelFormat, "has shape [N, 3], but [N, 4] is stored",
       [](auto* d, auto*, auto*) {
         *d = Replaced(*d, R"("name": "y", "dtype": "f32")", R"("name": "y", "dtype": "f32", "shape": ["N", 4])");
       }},
      {"input without shape", Code::kModelFormat, "values[0]: a graph input needs a shape",
       [](auto* d, auto*, auto*) {
         *d = Replaced(*d, R"(, "shape": ["N", 5])", ""), *d = Replaced(*d, R"("symbols": ["N"])", R"("symbols": [])");
       }},
      {"unknown op", Code::kUnsupported, "'softmax' (node 'fc')",
       [](auto* d, auto*, auto*) { *d = Replaced(*d, R"("op": "dense")", R"("op": "softmax")"); }},
      {"no JSON", Code::kModelFormat, "graph: not one JSON object", [](auto* d, auto*, auto*) { *d = "graph"; }},
  };
  for (const Row& row : rows) {
    std::string draft = kToyDraft;
    ToyConstants constants;
    std::vector<LogicalArray> arrays = constants.Arrays();
    row.change(&draft, &constants, &arrays);
    const Status status = WriteGraph(draft, arrays, "test", ToyOps).status();
    EXPECT_EQ(status.code(), row.code) << row.name;
    EXPECT_NE(status.message().find(row.message), std::string::npos) << row.name << ": " << status.message();
  }
}

}  // namespace
}  // namespace pqi::test
