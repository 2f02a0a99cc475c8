#include "tests/runtime/model_builder.h"

#include <gtest/gtest.h>

#include <cstring>

#include "graph/write.h"
#include "ops/op.h"

namespace pqi::test {
namespace {

std::string Join(const std::vector<std::string>& items) {
  std::string out;
  for (const std::string& item : items) out += (out.empty() ? "" : ",") + item;
  return out;
}

template <typename T>
std::string Numbers(const std::vector<T>& v) {
  std::vector<std::string> texts;
  for (T x : v) texts.push_back(std::to_string(x));
  return Join(texts);
}

std::string QuantText(int quant) {
  if (quant == ModelBuilder::kIntegers) return R"("dtype":"i32")";
  return quant < 0 ? R"("dtype":"f32")" : R"("dtype":"u8","quant":)" + std::to_string(quant);
}

}  // namespace

int ModelBuilder::AddQuant(int bits, int zero_point, int qmin, int qmax, float scale) {
  quants_.push_back(R"({"bits":)" + std::to_string(bits) + R"(,"zero_point":)" + std::to_string(zero_point) + R"(,"qmin":)" +
                    std::to_string(qmin) + R"(,"qmax":)" + std::to_string(qmax) + "}");
  scales_.push_back(scale);
  return static_cast<int>(quants_.size()) - 1;
}

template <typename T>
int ModelBuilder::Add(ConstType type, const char* dtype, const std::vector<int64_t>& shape, const std::vector<T>& elements,
                      const std::string& more) {
  const int id = static_cast<int>(constants_.size());
  constants_.push_back(R"({"name":"c)" + std::to_string(id) + R"(","dtype":")" + dtype + R"(","shape":[)" + Numbers(shape) + "]" + more +
                       "}");
  Stored stored{type, shape, std::vector<uint8_t>(elements.size() * sizeof(T))};
  if (!elements.empty()) std::memcpy(stored.bytes.data(), elements.data(), stored.bytes.size());
  stored_.push_back(std::move(stored));
  return id;
}

int ModelBuilder::AddFloats(const std::vector<int64_t>& shape, const std::vector<float>& elements) {
  return Add(ConstType::kF32, "f32", shape, elements, "");
}
int ModelBuilder::AddInts(const std::vector<int64_t>& shape, const std::vector<int32_t>& elements) {
  return Add(ConstType::kI32, "i32", shape, elements, "");
}
int ModelBuilder::AddBytes(const std::vector<int64_t>& shape, const std::vector<uint8_t>& elements) {
  return Add(ConstType::kU8, "u8", shape, elements, "");
}
int ModelBuilder::AddCodes(const std::vector<int64_t>& shape, int bits, const char* packing, const std::vector<int8_t>& elements) {
  return Add(ConstType::kCode, "code", shape, elements, R"(,"bits":)" + std::to_string(bits) + R"(,"packing":")" + packing + "\"");
}

int ModelBuilder::AddInput(const std::string& name, const std::string& shape, int quant) {
  const int id = static_cast<int>(values_.size());
  values_.push_back(R"({"name":")" + name + "\"," + QuantText(quant) + R"(,"shape":[)" + shape + "]}");
  inputs_.push_back(R"({"name":")" + name + R"(","value":)" + std::to_string(id) + "}");
  return id;
}

int ModelBuilder::AddIndices(const std::string& name, const std::string& shape) {
  const int id = AddInput(name, shape);
  std::string& value = values_.back();
  value.replace(value.find("f32"), 3, "i32");
  return id;
}

int ModelBuilder::AddNode(const std::string& op, const std::vector<int>& inputs, int quant, const Constants& constants,
                          const std::string& attrs) {
  const int id = static_cast<int>(values_.size());
  values_.push_back(R"({"name":"v)" + std::to_string(id) + "\"," + QuantText(quant) + "}");
  std::vector<std::string> keys;
  for (const auto& [key, constant] : constants) keys.push_back("\"" + key + "\":" + std::to_string(constant));
  nodes_.push_back(R"({"op":")" + op + R"(","name":"n)" + std::to_string(nodes_.size()) + R"(","inputs":[)" + Numbers(inputs) +
                   R"(],"outputs":[)" + std::to_string(id) + R"(],"constants":{)" + Join(keys) + R"(},"attrs":{)" + attrs + "}}");
  return id;
}

void ModelBuilder::AddOutput(const std::string& name, int value) {
  outputs_.push_back(R"({"name":")" + name + R"(","value":)" + std::to_string(value) + "}");
}

std::string ModelBuilder::Json() const {
  std::vector<std::string> constants = constants_;
  if (!quants_.empty()) {
    constants.push_back(R"({"name":"activation_scales","dtype":"f32","shape":[)" + std::to_string(quants_.size()) + "]}");
  }
  std::string symbols;
  for (const char* name : {"N", "H", "W"}) {
    const std::string quoted = std::string("\"") + name + "\"";
    for (const std::string& value : values_) {
      if (value.find("\"shape\":[") != std::string::npos && value.find(quoted, value.find("\"shape\":[")) != std::string::npos) {
        symbols += (symbols.empty() ? "" : ",") + quoted;
        break;
      }
    }
  }
  return R"({"symbols":[)" + symbols + R"(],"quants":[)" + Join(quants_) + R"(],"constants":[)" + Join(constants) + R"(],"values":[)" +
         Join(values_) + R"(],"nodes":[)" + Join(nodes_) + R"(],"inputs":[)" + Join(inputs_) + R"(],"outputs":[)" + Join(outputs_) +
         R"(],"samples":[]})";
}

Result<std::shared_ptr<const Model>> ModelBuilder::BuildText(const std::string& json) const {
  std::vector<LogicalArray> arrays;
  for (const Stored& s : stored_) arrays.push_back({s.type, s.shape, s.bytes});
  if (!scales_.empty()) {
    arrays.push_back({ConstType::kF32,
                      {static_cast<int64_t>(scales_.size())},
                      {reinterpret_cast<const uint8_t*>(scales_.data()), scales_.size() * sizeof(float)}});
  }
  PQI_ASSIGN_OR_RETURN(const AlignedBuffer<uint8_t> bytes, WriteGraph(json, arrays, "test", ops::FindOpDef));
  return Model::FromBytes(bytes.span());
}

std::vector<int8_t> RandomCodes(std::mt19937* random, size_t count, int bits) {
  const int lo = bits == 2 ? -1 : -(1 << (bits - 1)), hi = bits == 2 ? 1 : (1 << (bits - 1)) - 1;
  std::uniform_int_distribution<int> code(lo, hi);
  std::vector<int8_t> out(count);
  for (int8_t& c : out) c = static_cast<int8_t>(code(*random));
  return out;
}

std::vector<float> RandomFloats(std::mt19937* random, size_t count, float lo, float hi) {
  std::uniform_real_distribution<float> number(lo, hi);
  std::vector<float> out(count);
  for (float& f : out) f = number(*random);
  return out;
}

RunOutcome RunModel(Session* session, const std::vector<ConcreteShape>& shapes, const std::vector<const void*>& inputs, bool capture_all) {
  const Graph& graph = session->model().graph();
  RunOutcome outcome;
  auto plan = session->PlanFor(shapes);
  EXPECT_TRUE(plan.ok()) << plan.status().message();
  if (!plan.ok()) return outcome;
  std::vector<Target> targets;
  const auto add = [&](uint32_t value, std::vector<uint8_t>* bytes) {
    size_t n = DTypeSize(graph.values[value].dtype);
    for (int64_t d : plan.value()->shapes[value]) n *= static_cast<size_t>(d);
    bytes->resize(n);
    targets.push_back({value, bytes->data()});
  };
  outcome.outputs.resize(graph.outputs.size());
  for (size_t i = 0; i < graph.outputs.size(); ++i) add(graph.outputs[i].value, &outcome.outputs[i]);
  if (capture_all) outcome.captured.resize(graph.nodes.size());
  for (size_t i = 0; i < outcome.captured.size(); ++i) add(graph.nodes[i].outputs[0], &outcome.captured[i]);
  const Status status = session->Run(*plan.value(), inputs, targets);
  EXPECT_TRUE(status.ok()) << status.message();
  return outcome;
}

std::unique_ptr<Session> MakeSession(const std::shared_ptr<const Model>& model, int threads, const std::string& isa, ArenaReuse reuse) {
  SessionOptions options;
  options.threads = threads;
  options.isa = isa;
  options.reuse = reuse;
  auto session = Session::Create(model, options);
  EXPECT_TRUE(session.ok()) << session.status().message();
  return std::move(session).value();
}

std::unique_ptr<Session> MakeSession(const std::shared_ptr<const Model>& model, int threads, const kernels::KernelSet& kernels) {
  SessionOptions options;
  options.threads = threads;
  auto session = Session::Create(model, options, Selection{&kernels, ""});
  EXPECT_TRUE(session.ok()) << session.status().message();
  return std::move(session).value();
}

}  // namespace pqi::test
