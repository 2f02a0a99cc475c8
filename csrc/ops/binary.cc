// binary: arithmetic of two operands of one rank that broadcast, codes or float in any mix; the second may be a constant.
#include <array>
#include <limits>

#include "kernels/reference/elementwise.h"
#include "ops/families.h"
#include "ops/schema.h"
#include "ops/step_util.h"

namespace pqi::ops {
namespace {

using kernels::reference::BinaryFunction;
using kernels::reference::BinaryOperand;

constexpr size_t kMostDims = 8;  // kMaxRank

bool HasConstant(const NodeView& view) { return view.node.inputs.size() == 1; }

BinaryFunction ReadFunction(AttrReader* attrs) {
  // In the order of the enumerators.
  return static_cast<BinaryFunction>(attrs->Choice("function", {"add", "sub", "mul", "div", "rsub", "rdiv"}));
}

Status Check(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckArity(view, 1, 2));
  if (HasConstant(view)) {
    PQI_RETURN_IF_ERROR(CheckConstantKeys(view, {"other"}));
    PQI_RETURN_IF_ERROR(CheckConstant(view, "other", ConstType::kF32, {}));
  } else {
    PQI_RETURN_IF_ERROR(CheckConstantKeys(view, {}));
  }
  AttrReader attrs(view);
  ReadFunction(&attrs);
  return attrs.Finish();
}

Status Infer(const NodeView& view, const std::vector<Shape>& inputs, std::vector<Shape>* outputs) {
  Shape other;
  if (HasConstant(view)) {
    for (int64_t d : view.constant("other")->shape) other.push_back(Dim::Fixed(d));
  } else {
    other = inputs[1];
  }
  Shape out(inputs[0].size());
  bool fits = inputs[0].size() == other.size();
  for (size_t i = 0; fits && i < out.size(); ++i) fits = BroadcastDim(inputs[0][i], other[i], &out[i]);
  if (!fits) {
    return NodeError(view, "shapes " + ShapeText(view.graph, inputs[0]) + " and " + ShapeText(view.graph, other) + " do not broadcast");
  }
  outputs->assign(1, out);
  return {};
}

class BinaryStep : public Step {
 public:
  explicit BinaryStep(const NodeView& view) {
    AttrReader attrs(view);
    function_ = ReadFunction(&attrs);
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    output_ = OutputOf(view, {-kInfinity, kInfinity});
    for (size_t i = 0; i < view.node.inputs.size(); ++i) {
      is_u8_[i] = view.input(i).dtype == DType::kU8;
      affine_[i] = AffineOf(view.graph, view.input(i));
    }
    if (HasConstant(view)) {
      constant_ = Elements<float>(view, "other");
      const std::vector<int64_t>& shape = view.constant("other")->shape;
      for (size_t d = 0; d < shape.size(); ++d) constant_shape_[d] = shape[d];
    }
    info_ = {"reference", "", 0};
  }

  void Run(const RunArgs& args) const noexcept override {
    const ConcreteShape& shape = *args.out.shape;
    const int64_t last = shape.empty() ? 1 : shape.back();
    Strides strides[2];
    for (size_t i = 0; i < 2; ++i) {
      strides[i] = StridesOf(constant_.size() != 0 && i == 1 ? constant_shape_.data() : args.in[i].shape->data(), shape.size());
    }
    ParallelFor(args.pool, args.out.count() / last, kGrain / last + 1, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        BinaryOperand operands[2];
        for (size_t i = 0; i < 2; ++i) operands[i] = OperandAt(args, i, Offset(strides[i], shape, row), strides[i]);
        kernels::reference::BinaryRow(function_, operands[0], operands[1], static_cast<size_t>(last), output_,
                                      OutputAt(args.out.data, output_, row * last));
      }
    });
  }

 private:
  // Elements between neighbours of each axis; 0 where the operand repeats.
  struct Strides {
    std::array<int64_t, kMostDims> of{};
    int64_t last = 0;
  };

  static Strides StridesOf(const int64_t* dims, size_t rank) {
    Strides s;
    int64_t step = 1;
    for (size_t d = rank; d-- > 0;) {
      s.of[d] = dims[d] == 1 ? 0 : step;
      step *= dims[d];
    }
    if (rank > 0) s.last = s.of[rank - 1];
    return s;
  }

  // Where an operand's row begins, rows being numbered over all axes but the last.
  static int64_t Offset(const Strides& s, const ConcreteShape& shape, int64_t row) {
    int64_t offset = 0;
    for (size_t d = shape.size(); d-- > 1;) {
      offset += row % shape[d - 1] * s.of[d - 1];
      row /= shape[d - 1];
    }
    return offset;
  }

  BinaryOperand OperandAt(const RunArgs& args, size_t i, int64_t offset, const Strides& s) const {
    BinaryOperand operand;
    operand.step = static_cast<size_t>(s.last);
    operand.affine = affine_[i];
    if (i == 1 && constant_.size() != 0) {
      operand.f32 = constant_.data() + offset;
    } else if (is_u8_[i]) {
      operand.u8 = args.in[i].u8() + offset;
    } else {
      operand.f32 = args.in[i].f32() + offset;
    }
    return operand;
  }

  BinaryFunction function_;
  kernels::Output output_;
  bool is_u8_[2] = {};
  kernels::Affine affine_[2];
  Span<const float> constant_;  // in the model's file
  std::array<int64_t, kMostDims> constant_shape_{};
};

Result<std::unique_ptr<Step>> Prepare(const PrepareContext& context) {
  return std::unique_ptr<Step>(std::make_unique<BinaryStep>(context.view));
}

}  // namespace

const Op kBinary = {{"binary", Check, Infer, nullptr}, Prepare, nullptr};

}  // namespace pqi::ops
