// Building blocks of the ops' schema rows: typed attributes, exact sets of keys, and errors that name the node.
#pragma once

#include <array>
#include <initializer_list>
#include <limits>
#include <string>
#include <vector>

#include "base/status.h"
#include "graph/constants.h"
#include "graph/op_def.h"
#include "graph/shapes.h"

namespace pqi::ops {

// Kernel sizes, strides, paddings and dilations are at most this, so that shape arithmetic cannot overflow.
inline constexpr uint64_t kMaxWindowAttr = 65535;
// A pooling window holds at most this many positions, so that 255 * positions fits int32.
inline constexpr int64_t kMaxPoolPositions = int64_t{1} << 23;

// ModelFormat error "node 'layer1.conv1' (conv2d): <what>".
Status NodeError(const NodeView& view, const std::string& what);

// Reads a node's attributes; the first failure is kept and every later read gives a default. Ends with Finish, which also
// refuses attributes that were not read: so each op's reader is at the same time the list of what it allows.
class AttrReader {
 public:
  explicit AttrReader(const NodeView& view) : view_(view) {}

  int64_t Uint(const char* name, uint64_t min, uint64_t max);
  bool Flag(const char* name) { return Uint(name, 0, 1) != 0; }
  float FloatBits(const char* name);
  // Index of the attribute's text in `allowed`.
  int Choice(const char* name, std::initializer_list<const char*> allowed);
  template <size_t N>
  std::array<int64_t, N> UintList(const char* name, uint64_t min, uint64_t max) {
    std::array<int64_t, N> out{};
    ReadList(name, N, min, max, out.data());
    return out;
  }
  // A list of any length up to 8, numbers or names.
  std::vector<DimOrName> List(const char* name);

  void Fail(const std::string& what);
  Status Finish();

 private:
  const Attr* Find(const char* name);
  void ReadList(const char* name, size_t n, uint64_t min, uint64_t max, int64_t* out);

  const NodeView& view_;
  std::vector<std::string> read_;
  Status status_;
};

// Activation of an epilogue (docs/numerics.md): none, relu or clamp as bounds.
struct Bounds {
  float lo = 0, hi = 0;
};
inline constexpr Bounds kNoActivation{-std::numeric_limits<float>::infinity(), std::numeric_limits<float>::infinity()};
// Reads `activation`, `lo`, `hi`.
Bounds ReadActivation(AttrReader* attrs);
// Reads `lo`, `hi`.
Bounds ReadClamp(AttrReader* attrs);

// The number of inputs lies in [min_inputs, max_inputs], there is exactly one output, and all of these are f32 or u8.
Status CheckArity(const NodeView& view, size_t min_inputs, size_t max_inputs);
// CheckArity for an op that reads indices: its inputs may be i32.
Status CheckCounts(const NodeView& view, size_t min_inputs, size_t max_inputs);
// The node's constants are those of `required` and any of `optional`, nothing else.
Status CheckConstantKeys(const NodeView& view, std::initializer_list<const char*> required,
                         std::initializer_list<const char*> optional = {});
// A constant that the node has is of this element type, and of this shape if `shape` is not empty.
Status CheckConstant(const NodeView& view, const char* key, ConstType type, const std::vector<int64_t>& shape);
// A constant that the node has is f32 of one dimension, which is at least 1.
Status CheckVector(const NodeView& view, const char* key);
// Shape rules are part of infer, not of check: while a file is being written the shapes are not known before.
Status CheckRank(const NodeView& view, const std::vector<Shape>& inputs, size_t input, size_t rank);
// Refuses a fixed dimension other than `want`. A symbol or "?" passes: the session checks it with the caller's shapes.
Status CheckDim(const NodeView& view, const std::vector<Shape>& inputs, size_t input, size_t dim, int64_t want);
// The shape that both must have: of each pair the fixed dimension, else the symbol. Refuses ranks or fixed dimensions that differ.
Status MergeShapes(const NodeView& view, const Shape& a, const Shape& b, const char* what, Shape* out);
// The dimension of an operation of two operands: one of them is 1, or they are the same. False if they are not.
bool BroadcastDim(const Dim& a, const Dim& b, Dim* out);
// Elements of an f32, i32 or u8 constant; empty where the node has no such constant.
template <typename T>
Span<const T> Elements(const NodeView& view, const char* key) {
  const Constant* c = view.constant(key);
  return c ? ElementsOf<T>(*c) : Span<const T>();
}

// Output 0 has the dtype and the very quant of input 0.
Status CheckSameType(const NodeView& view);
Status CheckDType(const NodeView& view, const Value& value, const char* role, DType dtype);

// Ops that move elements: at least one input and at most `max_inputs`, no constants, the type of the input for the output.
Status CheckMovement(const NodeView& view, size_t max_inputs = 1);
// Functions of floats: one input, which is f32.
Status CheckFloatInput(const NodeView& view);
// Functions of floats without an epilogue: one input, and it and the output are f32.
Status CheckFloats(const NodeView& view);

// The output has the shape of input 0.
Status InferSame(const NodeView& view, const std::vector<Shape>& inputs, std::vector<Shape>* outputs);
// The output has the shape of input 0, whose last dimension must be `channels`.
Status InferChannels(const NodeView& view, const std::vector<Shape>& inputs, int64_t channels, std::vector<Shape>* outputs);

const Quant& QuantOf(const Graph& graph, const Value& value);

}  // namespace pqi::ops
