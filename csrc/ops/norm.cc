// layer_norm and group_norm: elements that are normalized together by their mean and variance, or by their root mean square.
#include <cmath>

#include "ops/families.h"
#include "ops/parts.h"
#include "ops/schema.h"

namespace pqi::ops {
namespace {

// A group costs about this many times as much as passing over it once.
constexpr int64_t kCost = 4;

float ReadEps(AttrReader* attrs) {
  const float eps = attrs->FloatBits("eps");
  if (!(std::isfinite(eps) && eps >= 0)) attrs->Fail("'eps' must be finite and not negative");
  return eps;
}

const float* DataOrNull(Span<const float> s) { return s.empty() ? nullptr : s.data(); }

Status CheckNorm(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckFloatInput(view));
  PQI_RETURN_IF_ERROR(CheckConstantKeys(view, {}, {"weight", "bias"}));
  for (const char* key : {"weight", "bias"}) {
    if (view.has_constant(key)) PQI_RETURN_IF_ERROR(CheckVector(view, key));
  }
  return {};
}

// The last dimension is the length of weight and bias.
Status InferNorm(const NodeView& view, const std::vector<Shape>& inputs, std::vector<Shape>* outputs) {
  if (inputs[0].empty()) return NodeError(view, "the input must have at least 1 dimension");
  const size_t last = inputs[0].size() - 1;
  outputs->assign(1, inputs[0]);
  for (const char* key : {"weight", "bias"}) {
    if (!view.has_constant(key)) continue;
    const int64_t channels = view.constant(key)->shape[0];
    PQI_RETURN_IF_ERROR(CheckDim(view, inputs, 0, last, channels));
    const Dim& known = outputs->front()[last];
    if (known.fixed() && known.value != channels) return NodeError(view, "'weight' and 'bias' must have the same length");
    outputs->front()[last] = Dim::Fixed(channels);
  }
  return {};
}

class NormStep : public Step {
 protected:
  NormStep(const NodeView& view, const kernels::KernelSet& set)
      : set_(set),
        weight_(DataOrNull(Elements<float>(view, "weight"))),
        bias_(DataOrNull(Elements<float>(view, "bias"))),
        output_(OutputOf(view)) {
    info_ = {ElementwiseName(set), "", 0};
  }

  const kernels::KernelSet& set_;
  const float* weight_;  // in the model's file, as is `bias_`; nullptr where there is none
  const float* bias_;
  kernels::Output output_;
};

// ---- layer_norm

struct LayerNormAttributes {
  float eps = 0;
  bool center = true;
};

LayerNormAttributes ReadLayerNorm(AttrReader* attrs) {
  LayerNormAttributes a;
  a.eps = ReadEps(attrs);
  a.center = attrs->Flag("center");
  return a;
}

Status CheckLayerNorm(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckNorm(view));
  AttrReader attrs(view);
  ReadLayerNorm(&attrs);
  return attrs.Finish();
}

class LayerNormStep : public NormStep {
 public:
  LayerNormStep(const NodeView& view, const kernels::KernelSet& set) : NormStep(view, set) {
    AttrReader attrs(view);
    attributes_ = ReadLayerNorm(&attrs);
  }

  void Run(const RunArgs& args) const noexcept override {
    const int64_t n = args.out.shape->back();
    ForEachPart(args.pool, args.out.count() / n, n * kCost, [&](int64_t begin, int64_t end, size_t) {
      kernels::NormalizeGroup group;
      group.length = group.stride = static_cast<size_t>(n);
      group.weight = weight_;
      group.bias = bias_;
      group.eps = attributes_.eps;
      group.center = attributes_.center;
      for (int64_t row = begin; row < end; ++row) {
        group.x = args.in[0].f32() + row * n;
        set_.normalize(group, output_, OutputAt(args.out.data, output_, row * n));
      }
    });
  }

 private:
  LayerNormAttributes attributes_;
};

// ---- group_norm

struct GroupNormAttributes {
  float eps = 0;
  int64_t groups = 1;
};

GroupNormAttributes ReadGroupNorm(AttrReader* attrs) {
  GroupNormAttributes a;
  a.eps = ReadEps(attrs);
  a.groups = attrs->Uint("groups", 1, INT32_MAX);
  return a;
}

Status CheckGroupNorm(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckNorm(view));
  AttrReader attrs(view);
  ReadGroupNorm(&attrs);
  return attrs.Finish();
}

Status InferGroupNorm(const NodeView& view, const std::vector<Shape>& inputs, std::vector<Shape>* outputs) {
  PQI_RETURN_IF_ERROR(CheckRank(view, inputs, 0, 4));
  PQI_RETURN_IF_ERROR(InferNorm(view, inputs, outputs));
  AttrReader attrs(view);
  const int64_t groups = ReadGroupNorm(&attrs).groups;
  const Dim& channels = outputs->front()[3];
  if (channels.fixed() && channels.value % groups != 0) {
    return NodeError(view, std::to_string(groups) + " groups do not divide " + std::to_string(channels.value) + " channels");
  }
  return {};
}

class GroupNormStep : public NormStep {
 public:
  GroupNormStep(const NodeView& view, const kernels::KernelSet& set) : NormStep(view, set) {
    AttrReader attrs(view);
    attributes_ = ReadGroupNorm(&attrs);
  }

  void Run(const RunArgs& args) const noexcept override {
    const int64_t channels = args.out.dim(3), positions = args.out.dim(1) * args.out.dim(2), length = channels / attributes_.groups;
    ForEachPart(args.pool, args.out.dim(0) * attributes_.groups, positions * length * kCost, [&](int64_t begin, int64_t end, size_t) {
      kernels::NormalizeGroup group;
      group.pieces = static_cast<size_t>(positions);
      group.length = static_cast<size_t>(length);
      group.stride = static_cast<size_t>(channels);
      group.eps = attributes_.eps;
      for (int64_t i = begin; i < end; ++i) {
        const int64_t first = i % attributes_.groups * length, at = i / attributes_.groups * positions * channels + first;
        group.x = args.in[0].f32() + at;
        group.weight = weight_ != nullptr ? weight_ + first : nullptr;
        group.bias = bias_ != nullptr ? bias_ + first : nullptr;
        set_.normalize(group, output_, OutputAt(args.out.data, output_, at));
      }
    });
  }

 private:
  GroupNormAttributes attributes_;
};

}  // namespace

const Op kLayerNorm = {{"layer_norm", CheckLayerNorm, InferNorm, nullptr}, PrepareStep<LayerNormStep>, nullptr};
const Op kGroupNorm = {{"group_norm", CheckGroupNorm, InferGroupNorm, nullptr}, PrepareStep<GroupNormStep>, nullptr};

}  // namespace pqi::ops
