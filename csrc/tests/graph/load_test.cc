// A whole model through the loader: what it gives, and every way in which contents can be wrong.
#include "graph/load.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "codec/trit_rans.h"
#include "graph/constants.h"
#include "graph/serialize.h"
#include "tests/graph/toy_model.h"

namespace pqi::test {
namespace {

TEST(Load, GivesTheModelThatWasWritten) {
  const Result<LoadedModel> loaded = Load(ToyFile());
  ASSERT_TRUE(loaded.ok()) << loaded.status().message();
  const Graph& graph = loaded.value().graph;
  EXPECT_EQ(loaded.value().producer, "test");
  EXPECT_EQ(SerializeGraph(graph, ScaleText::kOmit), kToyGraph);
  EXPECT_EQ(graph.quants[0].scale, 0.5f);
  std::vector<int8_t> codes(15);
  EXPECT_TRUE(UnpackCodes(graph.constants[1], codes).ok());
  EXPECT_EQ(codes, ToyConstants().weight);
  const Span<const float> scale = ElementsOf<float>(graph.constants[2]);
  EXPECT_EQ(std::vector<float>(scale.begin(), scale.end()), ToyConstants().scale);
}

TEST(Load, ConstantsStayValidWhenTheModelMoves) {
  Result<LoadedModel> loaded = Load(ToyFile());
  const LoadedModel moved = std::move(loaded).value();
  for (const Constant& constant : moved.graph.constants) {
    EXPECT_GE(constant.bytes.data(), moved.file.data());
    EXPECT_LE(constant.bytes.data() + constant.bytes.size(), moved.file.data() + moved.file.size());
    EXPECT_EQ(reinterpret_cast<uintptr_t>(constant.bytes.data()) % 64, 0u);
  }
}

TEST(Load, SerializesScaleBitsOnRequest) {
  const Result<LoadedModel> loaded = Load(ToyFile());
  const std::string text = SerializeGraph(loaded.value().graph, ScaleText::kBits);
  EXPECT_NE(text.find(R"("qmax":255,"scale_bits":1056964608})"), std::string::npos) << text;  // 0x3F000000 = 0.5f
}

// F3, F4, F5: nothing that accident can do to a file goes unnoticed.
class DamageTest : public ::testing::Test {
 protected:
  static void ExpectRefused(const Bytes& file, const std::string& what) {
    const Status status = Load(file).status();
    ASSERT_TRUE(status.code() == Code::kModelFormat || status.code() == Code::kIntegrity) << what << ": " << status.message();
  }
  const Bytes file_ = ToyFile();
};

// Holds F1, F2, F3.
TEST_F(DamageTest, EveryTruncationIsRefused) {
  ASSERT_LT(file_.size(), 4096u);
  for (size_t keep = 0; keep < file_.size(); ++keep) {
    ExpectRefused({file_.begin(), file_.begin() + static_cast<std::ptrdiff_t>(keep)}, "first " + std::to_string(keep));
  }
}

// Holds F4.
TEST_F(DamageTest, EverySingleBitFlipIsRefused) {
  Bytes changed = file_;
  for (size_t at = 0; at < file_.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      changed[at] = static_cast<uint8_t>(file_[at] ^ 1 << bit);
      ExpectRefused(changed, "byte " + std::to_string(at) + " bit " + std::to_string(bit));
    }
    changed[at] = file_[at];
  }
}

// Holds F5.
TEST_F(DamageTest, EveryByteOverwrittenIsRefused) {
  Bytes changed = file_;
  for (size_t at = 0; at < file_.size(); ++at) {
    for (uint8_t value : std::initializer_list<uint8_t>{0x00, 0x7F, 0x80, 0xFF}) {
      if (file_[at] == value) continue;
      changed[at] = value;
      ExpectRefused(changed, "byte " + std::to_string(at));
    }
    changed[at] = file_[at];
  }
}

TEST_F(DamageTest, EveryMissingOrDoubledByteIsRefused) {
  for (size_t at = 0; at < file_.size(); ++at) {
    Bytes shorter = file_, longer = file_;
    shorter.erase(shorter.begin() + static_cast<std::ptrdiff_t>(at));
    longer.insert(longer.begin() + static_cast<std::ptrdiff_t>(at), file_[at]);
    ExpectRefused(shorter, "without byte " + std::to_string(at));
    ExpectRefused(longer, "with byte " + std::to_string(at) + " twice");
  }
}

// Holds F6, F34.
TEST_F(DamageTest, TrailingBytesAreRefused) {
  for (size_t extra : {1, 64, 4096}) {
    Bytes longer = file_;
    longer.resize(longer.size() + extra);
    ExpectRefused(longer, "trailing bytes");
  }
  Bytes twice = file_;
  twice.insert(twice.end(), file_.begin(), file_.end());
  ExpectRefused(twice, "two files in a row");
}

struct ContentsRow {
  const char* name;
  const char* message;
  std::function<void(ToyConstants*)> change;
};

// Holds D1, D2, D3, D4, D5, D6.
TEST(LoadContents, RefusesBadNumbers) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInf = std::numeric_limits<float>::infinity();
  std::vector<ContentsRow> rows = {
      {"NaN in a scale", "constant 'fc.scale': element 1 is nan", [](ToyConstants* c) { c->scale[1] = kNan; }},
      {"infinity in a scale", "constant 'fc.scale': element 2 is inf", [](ToyConstants* c) { c->scale[2] = kInf; }},
      {"NaN in a sample", "constant 'sample_y': element 5 is nan", [](ToyConstants* c) { c->sample_y[5] = kNan; }},
      {"D16 accumulator that could overflow", "output 1 could overflow",
       [](ToyConstants* c) { std::fill(c->weight.begin() + 5, c->weight.begin() + 10, int8_t{-8}); }},
  };
  for (float scale : {0.0f, -0.0f, -1.0f, 1e-45f, 1e-40f, 0x1.fffffep-101f, 0x1.000002p100f, 3e38f}) {
    rows.push_back({"D scale out of range", "quants[0]: scale", [scale](ToyConstants* c) { c->activation_scales[0] = scale; }});
  }
  rows.push_back({"D2 NaN scale", "'activation_scales': element 0 is nan", [](ToyConstants* c) { c->activation_scales[0] = kNan; }});
  rows.push_back({"D3 infinite scale", "'activation_scales': element 0 is inf", [](ToyConstants* c) { c->activation_scales[0] = kInf; }});
  for (const ContentsRow& row : rows) {
    ToyConstants constants;
    row.change(&constants);
    const Status status = Load(ToyFile(constants)).status();
    EXPECT_EQ(status.code(), Code::kModelFormat) << row.name;
    EXPECT_NE(status.message().find(row.message), std::string::npos) << row.name << ": " << status.message();
  }
}

TEST(LoadContents, AcceptsTheLargestAndSmallestScale) {
  for (float scale : {0x1p-100f, 0x1p100f}) {
    ToyConstants constants;
    constants.activation_scales[0] = scale;
    EXPECT_TRUE(Load(ToyFile(constants)).ok()) << scale;
  }
}

// The toy model's tensors with one replaced by other packed bytes.
Bytes WithTensor(const std::string& name, Bytes bytes) {
  const Bytes base = ToyFile();
  std::vector<Tensor> tensors = ReadContainer(base).value().tensors;
  for (Tensor& tensor : tensors) {
    if (tensor.name == name) tensor.bytes = bytes;
  }
  return ToBytes(WriteContainer("test", "", kToyGraph, tensors).value().span());
}

TEST(LoadContents, RefusesAStrayHighNibble) {  // D12
  const Status status = Load(WithTensor("fc.weight", {0, 0, 0, 0, 0, 0, 0, 0x10})).status();
  EXPECT_EQ(status.code(), Code::kModelFormat);
  EXPECT_NE(status.message().find("constant 'fc.weight': unused bits"), std::string::npos) << status.message();
}

TEST(LoadContents, ReadsEveryPacking) {
  struct {
    const char* bits_and_packing;
    int8_t lo, hi;
  } const rows[] = {
      {R"("bits": 8, "packing": "none")", -128, 127}, {R"("bits": 4, "packing": "nibble")", -8, 7},
      {R"("bits": 2, "packing": "trit5")", -1, 1},    {R"("bits": 2, "packing": "dense")", -2, 1},
      {R"("bits": 3, "packing": "dense")", -4, 3},    {R"("bits": 4, "packing": "dense")", -8, 7},
      {R"("bits": 5, "packing": "dense")", -16, 15},  {R"("bits": 6, "packing": "dense")", -32, 31},
      {R"("bits": 7, "packing": "dense")", -64, 63},  {R"("bits": 2, "packing": "trit_rans")", -1, 1},
  };
  for (const auto& row : rows) {
    ToyConstants constants;
    std::fill(constants.weight.begin(), constants.weight.end(), int8_t{0});
    constants.weight[0] = row.lo;
    constants.weight[14] = row.hi;
    std::string draft = Replaced(kToyDraft, R"("bits": 4, "packing": "nibble")", row.bits_and_packing);
    draft = Replaced(draft, R"("qmax": 255)", R"("qmax": 15)");  // so that large codes cannot overflow
    const Result<AlignedBuffer<uint8_t>> file = WriteGraph(draft, constants.Arrays(), "test", ToyOps);
    ASSERT_TRUE(file.ok()) << file.status().message();
    const Result<LoadedModel> loaded = Load(ToBytes(file.value().span()));
    ASSERT_TRUE(loaded.ok()) << row.bits_and_packing << ": " << loaded.status().message();
    std::vector<int8_t> codes(15);
    EXPECT_TRUE(UnpackCodes(loaded.value().graph.constants[1], codes).ok());
    EXPECT_EQ(codes, constants.weight) << row.bits_and_packing;
  }
}

// The toy model with its weights as a stream: the file's features, the bytes that stand for the weights, and the graph's text.
Status LoadStream(const char* features, const Bytes& stream, const std::string& shape = "[3,5]") {
  const Bytes file = ToyFile();
  const Result<Container> container = ReadContainer(file);
  std::vector<Tensor> tensors = container.value().tensors;
  for (Tensor& tensor : tensors) {
    if (tensor.name == "fc.weight") tensor = {tensor.name, StoredType::kU8, {static_cast<int64_t>(stream.size())}, stream};
  }
  std::string graph = Replaced(kToyGraph, R"("bits":4,"packing":"nibble")", R"("bits":2,"packing":"trit_rans")");
  graph = Replaced(graph, R"("dtype":"code","shape":[3,5])", R"("dtype":"code","shape":)" + shape);
  return Load(ToBytes(WriteContainer("test", features, graph, tensors).value().span())).status();
}

TEST(LoadStream, IsHeldToTheRulesOfStreams) {
  const Bytes stream = PackTritRans(std::vector<int8_t>{1, 0, 0, 0, -1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0}).value();
  EXPECT_TRUE(LoadStream(kTritRansFeature, stream).ok()) << LoadStream(kTritRansFeature, stream).message();
  EXPECT_NE(LoadStream("", stream).message().find("constant 'fc.weight': its packing is not in the file's list"), std::string::npos);
  Bytes longer = stream;
  longer.resize(longer.size() + 2);
  EXPECT_NE(LoadStream(kTritRansFeature, longer).message().find("constant 'fc.weight': entropy-coded trits: bytes are left"),
            std::string::npos);
  // A shape far beyond what the stream can hold is refused by the sizes alone; nothing of it is allocated.
  const Status huge = LoadStream(kTritRansFeature, stream, "[2147483647,64]");
  EXPECT_EQ(huge.code(), Code::kModelFormat);
  EXPECT_NE(huge.message().find("bytes are no stream of 137438953408 codes"), std::string::npos) << huge.message();
}

}  // namespace
}  // namespace pqi::test
