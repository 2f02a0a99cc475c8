// Integers and truth values while a model runs: positions, masks, indices. A truth value is a u8 value; codes above its zero point are
// true.
#include <algorithm>
#include <array>
#include <cmath>

#include "base/checked.h"
#include "kernels/reference/quantize.h"
#include "ops/families.h"
#include "ops/schema.h"
#include "ops/step_util.h"
#include "ops/walk.h"

namespace pqi::ops {
namespace {

// Gives the shape of a result whose operands broadcast: those inputs from `first` on, and the constant `other` where there is one.
Status InferBroadcast(const NodeView& view, const std::vector<Shape>& inputs, std::vector<Shape>* outputs) {
  std::vector<Shape> operands = inputs;
  if (const Constant* other = view.constant("other")) {
    Shape shape;
    for (int64_t d : other->shape) shape.push_back(Dim::Fixed(d));
    operands.push_back(shape);
  }
  Shape out = operands[0];
  for (const Shape& operand : operands) {
    bool fits = operand.size() == out.size();
    for (size_t i = 0; fits && i < out.size(); ++i) fits = BroadcastDim(out[i], operand[i], &out[i]);
    if (!fits) {
      return NodeError(view,
                       "shapes " + ShapeText(view.graph, operands[0]) + " and " + ShapeText(view.graph, operand) + " do not broadcast");
    }
  }
  outputs->assign(1, out);
  return {};
}

// An array that is broadcast to the shape of an output; its walk has at least one axis.
struct Repeated {
  const void* data = nullptr;
  Walk walk;
};

Repeated Broadcast(const void* data, Span<const int64_t> dims, const ConcreteShape& out) {
  Repeated operand{data, BroadcastWalk(dims, out)};
  if (out.empty()) operand.walk.Add(1, 0);
  return operand;
}

// Calls fn(out, offsets, steps, n) for each row along the last axis: element i of operand k lies at offsets[k] + i * steps[k].
template <size_t N, typename Fn>
void ForEachRow(const RunArgs& args, const std::array<Repeated, N>& operands, Fn&& fn) {
  const size_t last = operands[0].walk.rank - 1;
  const int64_t n = operands[0].walk.length[last];
  std::array<int64_t, N> steps{};
  for (size_t k = 0; k < N; ++k) steps[k] = operands[k].walk.distance[last];
  ParallelFor(args.pool, args.out.count() / n, kGrain / n + 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      std::array<int64_t, N> offsets{};
      for (size_t k = 0; k < N; ++k) offsets[k] = WalkCursor(operands[k].walk, last, row).offset();
      fn(row * n, offsets, steps, n);
    }
  });
}

Repeated Input(const RunArgs& args, size_t i) { return Broadcast(args.in[i].data, *args.in[i].shape, *args.out.shape); }

// The second operand of a node: input 1, or the constant `other`.
class Second {
 public:
  explicit Second(const NodeView& view) {
    const Constant* other = view.constant("other");
    if (!other) return;
    data_ = other->bytes.data();
    for (size_t d = 0; d < other->shape.size(); ++d) shape_[d] = other->shape[d];
  }
  Repeated Get(const RunArgs& args) const {
    if (data_) return Broadcast(data_, {shape_.data(), args.out.shape->size()}, *args.out.shape);
    return Input(args, 1);
  }

 private:
  const void* data_ = nullptr;  // elements of the model's file
  std::array<int64_t, kMaxRank> shape_{};
};

Status CheckSecond(const NodeView& view, ConstType type) {
  PQI_RETURN_IF_ERROR(CheckCounts(view, 1, 2));
  if (view.node.inputs.size() == 2) return CheckConstantKeys(view, {});
  PQI_RETURN_IF_ERROR(CheckConstantKeys(view, {"other"}));
  return CheckConstant(view, "other", type, {});
}

// ---- cast

Status CheckCast(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckCounts(view, 1, 1));
  PQI_RETURN_IF_ERROR(CheckConstantKeys(view, {}));
  const DType x = view.input(0).dtype, y = view.output(0).dtype;
  const bool known = (x == DType::kI32 && y == DType::kF32) || (x != DType::kI32 && y == DType::kI32);
  if (!known) return NodeError(view, "casts i32 to f32, or f32 or u8 to i32; got " + std::string(DTypeName(x)) + " to " + DTypeName(y));
  return AttrReader(view).Finish();
}

int32_t Truncated(float x) {
  if (std::isnan(x)) return 0;
  if (x >= 2147483648.0f) return INT32_MAX;
  return x < -2147483648.0f ? INT32_MIN : static_cast<int32_t>(x);
}

class CastStep : public Step {
 public:
  explicit CastStep(const NodeView& view) : from_(view.input(0).dtype) {
    if (from_ == DType::kU8) zero_point_ = QuantOf(view.graph, view.input(0)).zero_point;
    info_ = {"integers", "", 0};
  }
  void Run(const RunArgs& args) const noexcept override {
    ParallelFor(args.pool, args.out.count(), kGrain, [&](int64_t begin, int64_t end) {
      int32_t* y = static_cast<int32_t*>(args.out.data);
      for (int64_t i = begin; i < end; ++i) {
        if (from_ == DType::kI32) {
          args.out.mutable_f32()[i] = static_cast<float>(args.in[0].i32()[i]);
        } else {
          y[i] = from_ == DType::kU8 ? args.in[0].u8()[i] - zero_point_ : Truncated(args.in[0].f32()[i]);
        }
      }
    });
  }

 private:
  DType from_;
  int32_t zero_point_ = 0;
};

// ---- compare

enum class Relation { kEqual, kNotEqual, kLess, kLessOrEqual, kGreater, kGreaterOrEqual };

Relation ReadRelation(AttrReader* attrs) { return static_cast<Relation>(attrs->Choice("function", {"eq", "ne", "lt", "le", "gt", "ge"})); }

template <typename T>
bool Holds(Relation relation, T a, T b) {
  switch (relation) {
    case Relation::kEqual:
      return a == b;
    case Relation::kNotEqual:
      return a != b;
    case Relation::kLess:
      return a < b;
    case Relation::kLessOrEqual:
      return a <= b;
    case Relation::kGreater:
      return a > b;
    case Relation::kGreaterOrEqual:
      return a >= b;
  }
  return false;
}

Status CheckCompare(const NodeView& view) {
  const bool integers = !view.node.inputs.empty() && view.input(0).dtype == DType::kI32;
  PQI_RETURN_IF_ERROR(CheckSecond(view, integers ? ConstType::kI32 : ConstType::kF32));
  if (view.node.inputs.size() == 2 && (view.input(1).dtype == DType::kI32) != integers) {
    return NodeError(view, "compares i32 with i32, and f32 and u8 with each other");
  }
  PQI_RETURN_IF_ERROR(CheckDType(view, view.output(0), "output", DType::kU8));
  AttrReader attrs(view);
  ReadRelation(&attrs);
  return attrs.Finish();
}

class CompareStep : public Step {
 public:
  explicit CompareStep(const NodeView& view) : second_(view) {
    AttrReader attrs(view);
    relation_ = ReadRelation(&attrs);
    const kernels::Output output = OutputOf(view);
    for (int truth = 0; truth < 2; ++truth) codes_[truth] = kernels::reference::QuantizeValue(static_cast<float>(truth), output);
    for (size_t i = 0; i < view.node.inputs.size(); ++i) {
      types_[i] = view.input(i).dtype;
      affine_[i] = AffineOf(view.graph, view.input(i));
    }
    if (view.node.inputs.size() == 1) types_[1] = types_[0] == DType::kI32 ? DType::kI32 : DType::kF32;
    info_ = {"integers", "", 0};
  }
  void Run(const RunArgs& args) const noexcept override {
    const std::array<Repeated, 2> operands{Input(args, 0), second_.Get(args)};
    ForEachRow(args, operands, [&](int64_t out, const auto& at, const auto& step, int64_t n) {
      uint8_t* y = args.out.mutable_u8() + out;
      for (int64_t i = 0; i < n; ++i) {
        const int64_t a = at[0] + i * step[0], b = at[1] + i * step[1];
        const bool holds = types_[0] == DType::kI32 ? Holds(relation_, static_cast<const int32_t*>(operands[0].data)[a],
                                                            static_cast<const int32_t*>(operands[1].data)[b])
                                                    : Holds(relation_, Float(operands[0], 0, a), Float(operands[1], 1, b));
        y[i] = codes_[holds ? 1 : 0];
      }
    });
  }

 private:
  float Float(const Repeated& operand, size_t i, int64_t at) const {
    if (types_[i] == DType::kF32) return static_cast<const float*>(operand.data)[at];
    return kernels::reference::DequantizeValue(static_cast<const uint8_t*>(operand.data)[at], affine_[i]);
  }

  Second second_;
  Relation relation_;
  uint8_t codes_[2] = {};
  DType types_[2] = {};
  kernels::Affine affine_[2];
};

// ---- where

Status CheckWhere(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckCounts(view, 3, 3));
  PQI_RETURN_IF_ERROR(CheckConstantKeys(view, {}));
  PQI_RETURN_IF_ERROR(CheckDType(view, view.input(0), "condition", DType::kU8));
  const Value& y = view.output(0);
  for (size_t i = 1; i < 3; ++i) {
    if (view.input(i).dtype != y.dtype || view.input(i).quant != y.quant) {
      return NodeError(view, "what is chosen from and the output must have the same dtype and quant");
    }
  }
  return AttrReader(view).Finish();
}

class WhereStep : public Step {
 public:
  explicit WhereStep(const NodeView& view)
      : zero_point_(static_cast<uint8_t>(QuantOf(view.graph, view.input(0)).zero_point)), element_size_(DTypeSize(view.output(0).dtype)) {
    info_ = {"copy", "chosen element by element", 0};
  }
  void Run(const RunArgs& args) const noexcept override {
    const std::array<Repeated, 3> operands{Input(args, 0), Input(args, 1), Input(args, 2)};
    ByElementSize(args, element_size_, [&](const auto* typed, auto* y) {
      using T = std::remove_reference_t<decltype(*typed)>;
      const uint8_t* condition = args.in[0].u8();
      T* a = static_cast<T*>(args.in[1].data);
      T* b = static_cast<T*>(args.in[2].data);
      ForEachRow(args, operands, [&](int64_t out, const auto& at, const auto& step, int64_t n) {
        for (int64_t i = 0; i < n; ++i) {
          const bool holds = condition[at[0] + i * step[0]] != zero_point_;
          y[out + i] = holds ? a[at[1] + i * step[1]] : b[at[2] + i * step[2]];
        }
      });
    });
  }

 private:
  uint8_t zero_point_;
  size_t element_size_;
};

// ---- integer

enum class IntegerFunction { kAdd, kSub, kMul, kFloorDivide, kRemainder, kMaximum, kMinimum };

IntegerFunction ReadInteger(AttrReader* attrs) {
  return static_cast<IntegerFunction>(attrs->Choice("function", {"add", "sub", "mul", "floor_divide", "remainder", "maximum", "minimum"}));
}

// Sums, differences and products are modulo 2^32; a quotient is rounded down, a remainder has the divisor's sign, and both are 0 for a
// divisor of 0.
int32_t Combine(IntegerFunction function, int32_t a, int32_t b) {
  const FloorQuotient floor = b == 0 ? FloorQuotient{} : FloorDivide(a, b);
  switch (function) {
    case IntegerFunction::kAdd:
      return static_cast<int32_t>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b));
    case IntegerFunction::kSub:
      return static_cast<int32_t>(static_cast<uint32_t>(a) - static_cast<uint32_t>(b));
    case IntegerFunction::kMul:
      return static_cast<int32_t>(static_cast<uint32_t>(a) * static_cast<uint32_t>(b));
    case IntegerFunction::kFloorDivide:
      return static_cast<int32_t>(static_cast<uint32_t>(floor.quotient));
    case IntegerFunction::kRemainder:
      return static_cast<int32_t>(floor.remainder);
    case IntegerFunction::kMaximum:
      return std::max(a, b);
    case IntegerFunction::kMinimum:
      return std::min(a, b);
  }
  return 0;
}

Status CheckInteger(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckSecond(view, ConstType::kI32));
  for (size_t i = 0; i < view.node.inputs.size(); ++i) PQI_RETURN_IF_ERROR(CheckDType(view, view.input(i), "input", DType::kI32));
  PQI_RETURN_IF_ERROR(CheckDType(view, view.output(0), "output", DType::kI32));
  AttrReader attrs(view);
  ReadInteger(&attrs);
  return attrs.Finish();
}

class IntegerStep : public Step {
 public:
  explicit IntegerStep(const NodeView& view) : second_(view) {
    AttrReader attrs(view);
    function_ = ReadInteger(&attrs);
    info_ = {"integers", "", 0};
  }
  void Run(const RunArgs& args) const noexcept override {
    const std::array<Repeated, 2> operands{Input(args, 0), second_.Get(args)};
    const int32_t* a = static_cast<const int32_t*>(operands[0].data);
    const int32_t* b = static_cast<const int32_t*>(operands[1].data);
    int32_t* y = static_cast<int32_t*>(args.out.data);
    ForEachRow(args, operands, [&](int64_t out, const auto& at, const auto& step, int64_t n) {
      for (int64_t i = 0; i < n; ++i) y[out + i] = Combine(function_, a[at[0] + i * step[0]], b[at[1] + i * step[1]]);
    });
  }

 private:
  Second second_;
  IntegerFunction function_;
};

// ---- arange

Status CheckArange(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckCounts(view, 1, 1));
  PQI_RETURN_IF_ERROR(CheckConstantKeys(view, {}));
  PQI_RETURN_IF_ERROR(CheckDType(view, view.output(0), "output", DType::kI32));
  AttrReader attrs(view);
  attrs.Axis();
  attrs.UintOrSize("start", 0, UINT32_MAX);
  attrs.Uint("step", 0, UINT32_MAX);
  return attrs.Finish();
}

Status InferArange(const NodeView& view, const std::vector<Shape>& inputs, std::vector<Shape>* outputs) {
  AttrReader attrs(view);
  const size_t axis = attrs.Axis();
  PQI_RETURN_IF_ERROR(CheckAxis(view, inputs[0], axis));
  outputs->assign(1, {inputs[0][axis]});
  return {};
}

class ArangeStep : public Step {
 public:
  explicit ArangeStep(const NodeView& view) {
    AttrReader attrs(view);
    start_ = attrs.UintOrSize("start", 0, UINT32_MAX);
    step_ = static_cast<uint32_t>(attrs.Uint("step", 0, UINT32_MAX));
    info_ = {"integers", "", 0};
  }
  void Run(const RunArgs& args) const noexcept override {
    int32_t* y = static_cast<int32_t*>(args.out.data);
    const uint32_t start = static_cast<uint32_t>(start_.In(args.numbers));
    for (int64_t i = 0; i < args.out.count(); ++i) y[i] = static_cast<int32_t>(start + static_cast<uint32_t>(i) * step_);
  }

 private:
  NumberOrSize start_;
  uint32_t step_ = 0;
};

}  // namespace

const Op kCast = {{"cast", CheckCast, InferSame, nullptr}, PrepareStep<CastStep>, nullptr};
const Op kCompare = {{"compare", CheckCompare, InferBroadcast, nullptr}, PrepareStep<CompareStep>, nullptr};
const Op kWhere = {{"where", CheckWhere, InferBroadcast, nullptr}, PrepareStep<WhereStep>, nullptr};
const Op kInteger = {{"integer", CheckInteger, InferBroadcast, nullptr}, PrepareStep<IntegerStep>, nullptr};
const Op kArange = {{"arange", CheckArange, InferArange, nullptr}, PrepareStep<ArangeStep>, nullptr};

}  // namespace pqi::ops
