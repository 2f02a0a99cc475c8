// unary: one function of each element. prelu: a slope for negative values, per channel.
#include <algorithm>
#include <cmath>

#include "kernels/reference/angles.h"
#include "ops/families.h"
#include "ops/schema.h"
#include "ops/step_util.h"

namespace pqi::ops {
namespace {

using kernels::Unary;
using kernels::UnaryFunction;

// ---- unary

// A function that no kernel set has, because it runs seldom and on few elements.
using Plain = float (*)(float) noexcept;
float Floor(float x) noexcept { return std::floor(x); }
float Ceil(float x) noexcept { return std::ceil(x); }
float Round(float x) noexcept { return std::nearbyint(x); }
constexpr Plain kPlain[] = {kernels::reference::Sin, kernels::reference::Cos, Floor, Ceil, Round};

struct Function : Unary {
  Plain plain = nullptr;
};

Function ReadUnary(AttrReader* attrs) {
  Function f;
  // The names are in the order of the enumerators, and then in that of kPlain.
  const int index = attrs->Choice(
      "function", {"exp",  "sigmoid", "tanh", "erf", "silu",     "gelu", "gelu_tanh", "hardsigmoid", "hardswish", "elu",  "leaky_relu",
                   "sqrt", "rsqrt",   "abs",  "log", "softplus", "sin",  "cos",       "floor",       "ceil",      "round"});
  constexpr int kFirstPlain = static_cast<int>(UnaryFunction::kSoftplus) + 1;
  if (index >= kFirstPlain) {
    f.plain = kPlain[index - kFirstPlain];
  } else {
    f.function = static_cast<UnaryFunction>(index);
  }
  f.alpha = attrs->FloatBits("alpha");
  const bool has_alpha = f.function == UnaryFunction::kElu || f.function == UnaryFunction::kLeakyRelu;
  if (!std::isfinite(f.alpha)) attrs->Fail("'alpha' must be finite");
  if (!has_alpha && f.alpha != 0) attrs->Fail("'alpha' must be 0 for a function without parameter");
  return f;
}

Status CheckUnary(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckFloatInput(view));
  PQI_RETURN_IF_ERROR(CheckConstantKeys(view, {}));
  AttrReader attrs(view);
  ReadUnary(&attrs);
  return attrs.Finish();
}

class UnaryStep : public Step {
 public:
  UnaryStep(const NodeView& view, const kernels::KernelSet& set) : set_(set), output_(OutputOf(view)) {
    AttrReader attrs(view);
    function_ = ReadUnary(&attrs);
    info_ = {function_.plain ? "reference" : ElementwiseName(set), "", 0};
  }
  void Run(const RunArgs& args) const noexcept override {
    ParallelFor(args.pool, args.out.count(), kGrain / 8, [&](int64_t begin, int64_t end) {
      if (function_.plain) return RunPlain(args, begin, end);
      set_.unary(args.in[0].f32() + begin, static_cast<size_t>(end - begin), function_, output_, OutputAt(args.out.data, output_, begin));
    });
  }

 private:
  void RunPlain(const RunArgs& args, int64_t begin, int64_t end) const {
    constexpr int64_t kChunk = 128;
    for (int64_t at = begin; at < end; at += kChunk) {
      const int64_t n = std::min(kChunk, end - at);
      float values[kChunk];
      float* y = output_.f32 ? args.out.mutable_f32() + at : values;
      std::transform(args.in[0].f32() + at, args.in[0].f32() + at + n, y, function_.plain);
      if (!output_.f32) set_.quantize(values, args.out.mutable_u8() + at, static_cast<size_t>(n), output_);
    }
  }

  const kernels::KernelSet& set_;
  Function function_;
  kernels::Output output_;
};

// ---- prelu

Status CheckPrelu(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckFloats(view));
  PQI_RETURN_IF_ERROR(CheckConstantKeys(view, {"slope"}));
  PQI_RETURN_IF_ERROR(CheckVector(view, "slope"));
  return AttrReader(view).Finish();
}

Status InferPrelu(const NodeView& view, const std::vector<Shape>& inputs, std::vector<Shape>* outputs) {
  return InferChannels(view, inputs, view.constant("slope")->shape[0], outputs);
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
  Span<const float> slope_;  // elements of the model's file
};

}  // namespace

const Op kUnary = {{"unary", CheckUnary, InferSame, nullptr}, PrepareStep<UnaryStep>, nullptr};
const Op kPrelu = {{"prelu", CheckPrelu, InferPrelu, nullptr}, PrepareStep<PreluStep>, nullptr};

}  // namespace pqi::ops
