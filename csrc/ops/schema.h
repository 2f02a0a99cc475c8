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

// Makes the kModelFormat error "node 'layer1.conv1' (conv2d): <what>".
Status NodeError(const NodeView& view, const std::string& what);

// What an attribute says: a number, or a symbol or size of the graph, which has one only in a run.
struct NumberOrSize {
  int64_t number = 0;
  std::optional<size_t> index;  // IndexOfName

  bool known() const { return !index; }
  int64_t In(Span<const int64_t> numbers) const { return index ? numbers[*index] : number; }
};

// Reads a node's attributes; the first failure is kept and every later read gives a default. Ends with Finish, which also
// refuses attributes that were not read: so each op's reader is at the same time the list of what it allows.
class AttrReader {
 public:
  explicit AttrReader(const NodeView& view) : view_(view) {}

  int64_t Uint(const char* name, uint64_t min, uint64_t max);
  // Reads a number, or the name of a symbol or size.
  NumberOrSize UintOrSize(const char* name, uint64_t min, uint64_t max);
  bool Flag(const char* name) { return Uint(name, 0, 1) != 0; }
  float FloatBits(const char* name);
  // Reads the attribute `axis`.
  size_t Axis() { return static_cast<size_t>(Uint("axis", 0, kMaxRank - 1)); }
  // Reads a text, and gives its index in `allowed`.
  int Choice(const char* name, std::initializer_list<const char*> allowed);
  template <size_t N>
  std::array<int64_t, N> UintList(const char* name, uint64_t min, uint64_t max) {
    std::array<int64_t, N> out{};
    ReadList(name, N, min, max, out.data());
    return out;
  }
  // Reads a pair, each of its parts a number or the name of a symbol or size.
  std::array<NumberOrSize, 2> PairOfSizes(const char* name, uint64_t min, uint64_t max);
  // Reads a list of any length up to 8, of numbers or names.
  std::vector<DimOrName> List(const char* name);

  void Fail(const std::string& what);
  Status Finish();

 private:
  const Attr* Find(const char* name);
  NumberOrSize Named(const char* name, const std::string& size);
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
// Reads the attributes `activation`, `lo` and `hi`.
Bounds ReadActivation(AttrReader* attrs);
// Reads the attributes `lo` and `hi`.
Bounds ReadClamp(AttrReader* attrs);

// Refuses any number of inputs outside [min_inputs, max_inputs], any number of outputs but one, and types other than f32 and u8.
Status CheckArity(const NodeView& view, size_t min_inputs, size_t max_inputs);
// Does what CheckArity does for an op that takes i32 as well.
Status CheckCounts(const NodeView& view, size_t min_inputs, size_t max_inputs);
// Refuses constants other than all of `required` and any of `optional`.
Status CheckConstantKeys(const NodeView& view, std::initializer_list<const char*> required,
                         std::initializer_list<const char*> optional = {});
// Refuses a constant (which the node has) of another element type, or of another shape if `shape` is not empty.
Status CheckConstant(const NodeView& view, const char* key, ConstType type, const std::vector<int64_t>& shape);
// Refuses a constant (which the node has) that is not f32 of one dimension, at least 1 long.
Status CheckVector(const NodeView& view, const char* key);
// The next five are parts of shape rules, so of infer and not of check: while a file is being written the shapes are not known before.
Status CheckRank(const NodeView& view, const std::vector<Shape>& inputs, size_t input, size_t rank);
// Refuses an input that has no such axis.
Status CheckAxis(const NodeView& view, const Shape& input, size_t axis);
// Refuses a fixed dimension other than `want`. A symbol or "?" passes: the session checks it with the caller's shapes.
Status CheckDim(const NodeView& view, const std::vector<Shape>& inputs, size_t input, size_t dim, int64_t want);
// Gives the shape that both must have: of each pair of dimensions the fixed one, else the symbol. Refuses ranks or fixed dimensions that
// differ.
Status MergeShapes(const NodeView& view, const Shape& a, const Shape& b, const char* what, Shape* out);
// Gives the dimension of an operation whose operands broadcast: one of the two is 1, or they are the same. Two
// different open ones give "?". False if they do not broadcast.
bool BroadcastDim(Dim a, Dim b, Dim* out);
// Gives the elements of an f32, i32 or u8 constant, none where the node has no such constant.
template <typename T>
Span<const T> Elements(const NodeView& view, const char* key) {
  const Constant* c = view.constant(key);
  return c ? ElementsOf<T>(*c) : Span<const T>();
}

// Refuses an output 0 that has not the dtype and the very quant of input 0.
Status CheckSameType(const NodeView& view);
Status CheckDType(const NodeView& view, const Value& value, const char* role, DType dtype);

// Holds a node to what ops that move elements have in common: one input or up to `max_inputs`, no constants, and an output of input 0's
// type.
Status CheckMovement(const NodeView& view, size_t max_inputs = 1);
// Holds a node to what functions of floats have in common: one input, which is f32.
Status CheckFloatInput(const NodeView& view);
// Holds a node to what functions of floats without an epilogue have in common: one input, and it and the output are f32.
Status CheckFloats(const NodeView& view);

// The output has the shape of input 0.
Status InferSame(const NodeView& view, const std::vector<Shape>& inputs, std::vector<Shape>* outputs);
// The output has the shape of input 0, whose last dimension must be `channels`.
Status InferChannels(const NodeView& view, const std::vector<Shape>& inputs, int64_t channels, std::vector<Shape>* outputs);

const Quant& QuantOf(const Graph& graph, const Value& value);

}  // namespace pqi::ops
