#include "tests/graph/toy_model.h"

#include <cstdlib>

#include "graph/constants.h"
#include "graph/parse.h"
#include "graph/shapes.h"

namespace pqi::test {
namespace {

Status Fail(const NodeView& view, const std::string& message) { return ModelFormat("node '" + view.node.name + "': " + message); }

Status CheckArity(const NodeView& view, size_t min_inputs, size_t max_inputs, size_t constants, size_t attrs) {
  const size_t inputs = view.node.inputs.size();
  if (inputs < min_inputs || inputs > max_inputs || view.node.outputs.size() != 1) return Fail(view, "wrong arity");
  if (view.node.constants.size() != constants || view.node.attrs.size() != attrs) return Fail(view, "wrong constants or attributes");
  return {};
}

Status CheckSameType(const NodeView& view) {
  for (size_t i = 0; i < view.node.inputs.size(); ++i) {
    if (view.input(i).dtype != view.output(0).dtype || view.input(i).quant != view.output(0).quant) return Fail(view, "dtypes differ");
  }
  return {};
}

Status CheckCopy(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckArity(view, 1, 1, 0, 0));
  return CheckSameType(view);
}

Status CheckJoin(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckArity(view, 1, 1'000'000, 0, 0));
  return CheckSameType(view);
}

Status CheckBlow(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckArity(view, 1, 1, 0, 1));
  const auto by = view.node.attrs.find("by");
  if (by == view.node.attrs.end() || !std::holds_alternative<uint64_t>(by->second)) return Fail(view, "'by' must be a number");
  return CheckSameType(view);
}

Status CheckCode(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckArity(view, 1, 1, 0, 0));
  const bool ok = view.input(0).dtype == DType::kF32 && view.output(0).dtype == DType::kU8;
  return ok ? Status() : Fail(view, "code is f32 -> u8");
}

Status CheckDense(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckArity(view, 1, 1, 2, 0));
  const Constant* weight = view.constant("weight");
  const Constant* scale = view.constant("scale");
  if (weight == nullptr || weight->type != ConstType::kCode || weight->shape.size() != 2) return Fail(view, "bad weight");
  if (scale == nullptr || scale->type != ConstType::kF32 || scale->shape.size() != 1) return Fail(view, "bad scale");
  const bool ok = view.input(0).dtype == DType::kU8 && view.output(0).dtype == DType::kF32;
  return ok ? Status() : Fail(view, "dense is u8 -> f32");
}

Status InferSame(const NodeView& view, const std::vector<Shape>& inputs, std::vector<Shape>* outputs) {
  for (const Shape& shape : inputs) {
    if (shape != inputs[0]) return Fail(view, "shapes differ");
  }
  outputs->push_back(inputs[0]);
  return {};
}

Status InferDense(const NodeView& view, const std::vector<Shape>& inputs, std::vector<Shape>* outputs) {
  const std::vector<int64_t>& weight = view.constant("weight")->shape;
  Shape shape = inputs[0];
  if (shape.empty() || shape.back() != Dim::Fixed(weight[1])) return Fail(view, "the last dimension does not match the weight");
  shape.back() = Dim::Fixed(weight[0]);
  outputs->push_back(shape);
  return {};
}

Status InferHalf(const NodeView& view, const std::vector<Shape>& inputs, std::vector<Shape>* outputs) {
  Shape shape = inputs[0];
  if (shape.empty()) return Fail(view, "no dimension to halve");
  if (!shape.back().fixed()) {
    shape.back() = Dim::Derived();
  } else if (shape.back().value < 2) {
    return Fail(view, "dimension " + std::to_string(shape.back().value) + " cannot be halved");
  } else {
    shape.back().value /= 2;
  }
  outputs->push_back(shape);
  return {};
}

Status InferBlow(const NodeView& view, const std::vector<Shape>& inputs, std::vector<Shape>* outputs) {
  Shape shape = inputs[0];
  const uint64_t by = std::get<uint64_t>(view.node.attrs.at("by"));
  if (shape.empty() || by > static_cast<uint64_t>(kMaxDim)) return Fail(view, "too large");
  if (shape.back().fixed()) {
    shape.back().value *= static_cast<int64_t>(by);
  } else {
    shape.back() = Dim::Derived();
  }
  outputs->push_back(shape);
  return {};
}

Status ProveDense(const NodeView& view) {
  const Constant& weight = *view.constant("weight");
  std::vector<int8_t> codes(static_cast<size_t>(weight.element_count()));
  PQI_RETURN_IF_ERROR(UnpackCodes(weight, codes));
  const size_t row = static_cast<size_t>(weight.shape[1]);
  for (size_t o = 0; o < codes.size(); o += row) {
    int64_t bound = 0;
    for (size_t i = 0; i < row; ++i) bound += std::abs(codes[o + i]) * view.graph.quants[static_cast<size_t>(view.input(0).quant)].qmax;
    if (bound > 10'000) return Fail(view, "output " + std::to_string(o / row) + " could overflow");
  }
  return {};
}

}  // namespace

const OpDef* ToyOps(const std::string& name) {
  static constexpr OpDef kOps[] = {
      {"copy", CheckCopy, InferSame, nullptr}, {"join", CheckJoin, InferSame, nullptr},       {"code", CheckCode, InferSame, nullptr},
      {"half", CheckCopy, InferHalf, nullptr}, {"dense", CheckDense, InferDense, ProveDense}, {"blow", CheckBlow, InferBlow, nullptr},
  };
  for (const OpDef& op : kOps) {
    if (name == op.name) return &op;
  }
  return nullptr;
}

const char* const kToyDraft = R"({
  "symbols": ["N"],
  "quants": [{"bits": 8, "zero_point": 3, "qmin": 0, "qmax": 255}],
  "constants": [{"name": "activation_scales", "dtype": "f32", "shape": [1]},
                {"name": "fc.weight", "dtype": "code", "shape": [3, 5], "bits": 4, "packing": "nibble"},
                {"name": "fc.scale", "dtype": "f32", "shape": [3]},
                {"name": "sample_x", "dtype": "f32", "shape": [2, 5]},
                {"name": "sample_y", "dtype": "f32", "shape": [2, 3]}],
  "values": [{"name": "x", "dtype": "f32", "shape": ["N", 5]},
             {"name": "x_q", "dtype": "u8", "quant": 0},
             {"name": "y", "dtype": "f32"}],
  "nodes": [{"op": "code", "name": "quant", "inputs": [0], "outputs": [1], "constants": {}, "attrs": {}},
            {"op": "dense", "name": "fc", "inputs": [1], "outputs": [2], "constants": {"weight": 1, "scale": 2}, "attrs": {}}],
  "inputs": [{"name": "x", "value": 0}],
  "outputs": [{"name": "logits", "value": 2}],
  "samples": [{"inputs": {"x": 3}, "outputs": {"logits": 4}}]
})";

const char* const kToyGraph =
    R"({"symbols":["N"],"quants":[{"bits":8,"zero_point":3,"qmin":0,"qmax":255}],)"
    R"("constants":[{"name":"activation_scales","dtype":"f32","shape":[1]},)"
    R"({"name":"fc.weight","dtype":"code","shape":[3,5],"bits":4,"packing":"nibble"},)"
    R"({"name":"fc.scale","dtype":"f32","shape":[3]},)"
    R"({"name":"sample_x","dtype":"f32","shape":[2,5]},{"name":"sample_y","dtype":"f32","shape":[2,3]}],)"
    R"("values":[{"name":"x","dtype":"f32","shape":["N",5]},{"name":"x_q","dtype":"u8","shape":["N",5],"quant":0},)"
    R"({"name":"y","dtype":"f32","shape":["N",3]}],)"
    R"("nodes":[{"op":"code","name":"quant","inputs":[0],"outputs":[1],"constants":{},"attrs":{}},)"
    R"({"op":"dense","name":"fc","inputs":[1],"outputs":[2],"constants":{"scale":2,"weight":1},"attrs":{}}],)"
    R"("inputs":[{"name":"x","value":0}],"outputs":[{"name":"logits","value":2}],)"
    R"("samples":[{"inputs":{"x":3},"outputs":{"logits":4}}]})";

std::vector<LogicalArray> ToyConstants::Arrays() const {
  return {ArrayOf(ConstType::kF32, {1}, activation_scales), ArrayOf(ConstType::kCode, {3, 5}, weight), ArrayOf(ConstType::kF32, {3}, scale),
          ArrayOf(ConstType::kF32, {2, 5}, sample_x), ArrayOf(ConstType::kF32, {2, 3}, sample_y)};
}

Bytes ToyFile(const ToyConstants& constants) {
  const Result<AlignedBuffer<uint8_t>> file = WriteGraph(kToyDraft, constants.Arrays(), "test", ToyOps);
  return file.ok() ? ToBytes(file.value().span()) : Bytes();
}

Bytes ToyFileWithGraph(const std::string& graph) {
  const Bytes base = ToyFile();
  const Result<Container> container = ReadContainer(base);
  const Result<AlignedBuffer<uint8_t>> file = WriteContainer("test", "", graph, container.value().tensors);
  return ToBytes(file.value().span());
}

Result<LoadedModel> Load(const Bytes& file) { return LoadGraph(ToBuffer(file), ToyOps); }

std::string GraphText(const std::string& input_shape, const std::string& values, const std::string& nodes, size_t output,
                      const std::string& symbols) {
  return R"({"symbols":[)" + symbols + R"(],"quants":[],"constants":[],"values":[)" + F32Value("x", input_shape) +
         (values.empty() ? "" : ",") + values + R"(],"nodes":[)" + nodes +
         R"(],"inputs":[{"name":"x","value":0}],"outputs":[{"name":"y","value":)" + std::to_string(output) + R"(}],"samples":[]})";
}

std::string F32Value(const std::string& name, const std::string& shape) {
  return R"({"name":")" + name + R"(","dtype":"f32")" + (shape.empty() ? "" : R"(,"shape":)" + shape) + "}";
}

std::string NodeText(const std::string& op, const std::string& name, const std::string& inputs, const std::string& outputs,
                     const std::string& attrs) {
  return R"({"op":")" + op + R"(","name":")" + name + R"(","inputs":[)" + inputs + R"(],"outputs":[)" + outputs +
         R"(],"constants":{},"attrs":{)" + attrs + "}}";
}

}  // namespace pqi::test
