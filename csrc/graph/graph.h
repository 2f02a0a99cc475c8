// The engine's graph: what docs/format.md section "Graph" describes, parsed and typed.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/span.h"
#include "graph/conditions.h"

namespace pqi {

enum class DType : uint8_t { kF32, kU8, kI32 };  // kI32 values are indices, which only inputs of the graph may be
inline size_t DTypeSize(DType t) { return t == DType::kU8 ? 1 : 4; }
inline const char* DTypeName(DType t) { return t == DType::kF32 ? "f32" : t == DType::kU8 ? "u8" : "i32"; }

// One dimension of a shape: a number, a named symbol of the graph, or "?" (known only once the inputs' shapes are).
struct Dim {
  enum Kind : uint8_t { kFixed, kSymbol, kDerived };
  Kind kind = kFixed;
  int64_t value = 0;  // of kFixed the number, of kSymbol its index in Graph::symbols

  static Dim Fixed(int64_t v) { return {kFixed, v}; }
  static Dim Symbol(int64_t index) { return {kSymbol, index}; }
  static Dim Derived() { return {kDerived, 0}; }
  bool fixed() const { return kind == kFixed; }
  bool operator==(const Dim& o) const { return kind == o.kind && (kind == kDerived || value == o.value); }
  bool operator!=(const Dim& o) const { return !(*this == o); }
};
using Shape = std::vector<Dim>;
using ConcreteShape = std::vector<int64_t>;

// Parameters of a quantized value: codes in [qmin, qmax] stand for (q - zero_point) * scale.
struct Quant {
  int32_t bits = 8;
  int32_t zero_point = 0;
  int32_t qmin = 0;
  int32_t qmax = 255;
  float scale = 1.0f;
};

// An activation: an array that is row-major and dense in its shape.
struct Value {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  int32_t quant = -1;  // index into Graph::quants; -1 exactly for f32 and i32
};

enum class ConstType : uint8_t { kF32, kI32, kU8, kCode };
// The type of a constant that stores such a value, as samples do.
inline ConstType ConstTypeOf(DType t) { return t == DType::kF32 ? ConstType::kF32 : t == DType::kU8 ? ConstType::kU8 : ConstType::kI32; }
enum class Packing : uint8_t { kNone, kNibble, kTrit5, kDense, kTritRans };

// A constant as it lies in the file: `bytes` are those of the model's own buffer.
struct Constant {
  std::string name;
  ConstType type = ConstType::kF32;
  std::vector<int64_t> shape;  // in elements, however they are packed
  int32_t bits = 0;            // width of a code; only kCode has one
  Packing packing = Packing::kNone;
  Span<const uint8_t> bytes;  // the elements as `packing` has them

  int64_t element_count() const {
    int64_t n = 1;
    for (int64_t d : shape) n *= d;
    return n;  // proved not to overflow when the container was read
  }
};

using DimOrName = std::variant<uint64_t, std::string>;
using Attr = std::variant<uint64_t, std::string, std::vector<DimOrName>>;

struct Node {
  std::string op;
  std::string name;
  std::vector<uint32_t> inputs;   // indices into Graph::values
  std::vector<uint32_t> outputs;  // indices into Graph::values
  std::map<std::string, uint32_t> constants;
  std::map<std::string, Attr> attrs;
};

struct Port {
  std::string name;
  uint32_t value = 0;
};

struct Sample {
  // By the names of the graph's ports: indices into Graph::constants.
  std::map<std::string, uint32_t> inputs;
  std::map<std::string, uint32_t> outputs;
};

struct Graph {
  std::vector<std::string> symbols;
  std::vector<Size> sizes;            // what is computed from the numbers that the symbols stand for
  std::vector<Condition> conditions;  // what the numbers that the symbols stand for must fulfil
  std::vector<Quant> quants;
  std::vector<Constant> constants;
  std::vector<Value> values;
  std::vector<Node> nodes;
  std::vector<Port> inputs;
  std::vector<Port> outputs;
  std::vector<Sample> samples;
};

// Gives the index of a name among the graph's symbols and, behind them, its sizes.
inline std::optional<size_t> IndexOfName(const Graph& graph, const std::string& name) {
  for (size_t i = 0; i < graph.symbols.size(); ++i) {
    if (graph.symbols[i] == name) return i;
  }
  for (size_t i = 0; i < graph.sizes.size(); ++i) {
    if (graph.sizes[i].name == name) return graph.symbols.size() + i;
  }
  return std::nullopt;
}

}  // namespace pqi
