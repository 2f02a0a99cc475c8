// unary: one function of each element. prelu: a slope for negative values, per channel.
#include <cmath>
#include <limits>

#include "ops/families.h"
#include "ops/schema.h"
#include "ops/step_util.h"

namespace pqi::ops {
namespace {

using kernels::Unary;
using kernels::UnaryFunction;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// ---- unary

Unary ReadUnary(AttrReader* attrs) {
  Unary f;
  // In the order of the enumerators.
  f.function =
      static_cast<UnaryFunction>(attrs->Choice("function", {"exp", "sigmoid", "tanh", "erf", "silu", "gelu", "gelu_tanh", "hardsigmoid",
                                                            "hardswish", "elu", "leaky_relu", "sqrt", "rsqrt", "abs", "log", "softplus"}));
  f.alpha = attrs->FloatBits("alpha");
  const bool has_alpha = f.function == UnaryFunction::kElu || f.function == UnaryFunction::kLeakyRelu;
  if (!std::isfinite(f.alpha)) attrs->Fail("'alpha' must be finite");
  if (!has_alpha && f.alpha != 0) attrs->Fail("'alpha' must be 0 for a function without parameter");
  return f;
}

Status CheckUnary(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckArity(view, 1, 1));
  PQI_RETURN_IF_ERROR(CheckDType(view, view.input(0), "input", DType::kF32));
  PQI_RETURN_IF_ERROR(CheckConstantKeys(view, {}));
  AttrReader attrs(view);
  ReadUnary(&attrs);
  return attrs.Finish();
}

Status InferSame(const NodeView&, const std::vector<Shape>& inputs, std::vector<Shape>* outputs) {
  outputs->assign(1, inputs[0]);
  return {};
}

class UnaryStep : public Step {
 public:
  UnaryStep(const NodeView& view, const kernels::KernelSet& set) : set_(set), output_(OutputOf(view, {-kInfinity, kInfinity})) {
    AttrReader attrs(view);
    function_ = ReadUnary(&attrs);
    info_ = {ElementwiseName(set), "", 0};
  }
  void Run(const RunArgs& args) const noexcept override {
    ParallelFor(args.pool, args.out.count(), kGrain / 8, [&](int64_t begin, int64_t end) {
      set_.unary(args.in[0].f32() + begin, static_cast<size_t>(end - begin), function_, output_, OutputAt(args.out.data, output_, begin));
    });
  }

 private:
  const kernels::KernelSet& set_;
  Unary function_;
  kernels::Output output_;
};

// ---- prelu

Status CheckPrelu(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckArity(view, 1, 1));
  PQI_RETURN_IF_ERROR(CheckDType(view, view.input(0), "input", DType::kF32));
  PQI_RETURN_IF_ERROR(CheckDType(view, view.output(0), "output", DType::kF32));
  PQI_RETURN_IF_ERROR(CheckConstantKeys(view, {"slope"}));
  const std::vector<int64_t>& shape = view.constant("slope")->shape;
  if (shape.size() != 1 || shape[0] < 1) return NodeError(view, "constant 'slope' must have 1 dimension of at least 1");
  PQI_RETURN_IF_ERROR(CheckConstant(view, "slope", ConstType::kF32, shape));
  return AttrReader(view).Finish();
}

Status InferPrelu(const NodeView& view, const std::vector<Shape>& inputs, std::vector<Shape>* outputs) {
  if (inputs[0].empty()) return NodeError(view, "the input must have at least 1 dimension");
  const size_t last = inputs[0].size() - 1;
  const int64_t channels = view.constant("slope")->shape[0];
  PQI_RETURN_IF_ERROR(CheckDim(view, inputs, 0, last, channels));
  outputs->assign(1, inputs[0]);
  outputs->front()[last] = Dim::Fixed(channels);
  return {};
}

class PreluStep : public Step {
 public:
  PreluStep(const NodeView& view, const kernels::KernelSet& set) : set_(set), slope_(Elements<float>(view, "slope")) {
    info_ = {ElementwiseName(set), "", 0};
  }
  void Run(const RunArgs& args) const noexcept override {
    const int64_t channels = static_cast<int64_t>(slope_.size());
    ParallelFor(args.pool, args.out.count() / channels, kGrain / channels + 1, [&](int64_t begin, int64_t end) {
      set_.prelu(args.in[0].f32() + begin * channels, args.out.mutable_f32() + begin * channels, static_cast<size_t>(end - begin),
                 slope_.size(), slope_.data());
    });
  }

 private:
  const kernels::KernelSet& set_;
  Span<const float> slope_;  // in the model's file
};

Result<std::unique_ptr<Step>> PrepareUnary(const PrepareContext& context) {
  return std::unique_ptr<Step>(std::make_unique<UnaryStep>(context.view, context.kernels));
}

Result<std::unique_ptr<Step>> PreparePrelu(const PrepareContext& context) {
  return std::unique_ptr<Step>(std::make_unique<PreluStep>(context.view, context.kernels));
}

}  // namespace

const Op kUnary = {{"unary", CheckUnary, InferSame, nullptr}, PrepareUnary, nullptr};
const Op kPrelu = {{"prelu", CheckPrelu, InferPrelu, nullptr}, PreparePrelu, nullptr};

}  // namespace pqi::ops
