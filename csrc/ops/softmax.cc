// softmax: over the last axis, with the triangular mask of causal attention where asked for.

#include "ops/families.h"
#include "ops/parts.h"
#include "ops/schema.h"

namespace pqi::ops {
namespace {

struct Attributes {
  bool causal = false, log = false;
};

Attributes Read(AttrReader* attrs) {
  Attributes a;
  a.causal = attrs->Flag("causal");
  a.log = attrs->Flag("log");
  if (a.causal && a.log) attrs->Fail("'causal' and 'log' exclude each other");
  return a;
}

Status Check(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckFloatInput(view));
  PQI_RETURN_IF_ERROR(CheckConstantKeys(view, {}));
  AttrReader attrs(view);
  Read(&attrs);
  return attrs.Finish();
}

Status Infer(const NodeView& view, const std::vector<Shape>& inputs, std::vector<Shape>* outputs) {
  AttrReader attrs(view);
  const size_t least = Read(&attrs).causal ? 2 : 1;
  if (inputs[0].size() < least) return NodeError(view, "the input must have at least " + std::to_string(least) + " dimension(s)");
  outputs->assign(1, inputs[0]);
  return {};
}

// A row costs about this many times as much as passing over it once.
constexpr int64_t kCost = 16;

class SoftmaxStep : public Step {
 public:
  SoftmaxStep(const NodeView& view, const kernels::KernelSet& set) : set_(set) {
    AttrReader attrs(view);
    attributes_ = Read(&attrs);
    output_ = OutputOf(view);
    info_ = {ElementwiseName(set), attributes_.causal ? "columns behind the diagonal are not computed" : "", 0};
  }

  size_t ScratchBytes(const ConcreteShape& in, const ConcreteShape&) const override {
    return output_.f32 ? 0 : static_cast<size_t>(in.back()) * sizeof(float);
  }

  void Run(const RunArgs& args) const noexcept override {
    const ConcreteShape& shape = *args.out.shape;
    const int64_t n = shape.back(), height = shape.size() > 1 ? shape[shape.size() - 2] : 1;
    ForEachPart(args.pool, args.out.count() / n, n * kCost, [&](int64_t begin, int64_t end, int64_t part) {
      for (int64_t row = begin; row < end; ++row) {
        const int64_t visible = attributes_.causal ? std::min(row % height + 1, n) : n;
        void* y = OutputAt(args.out.data, output_, row * n);
        float* e = output_.f32 ? static_cast<float*>(y) : reinterpret_cast<float*>(args.Scratch(part));
        set_.softmax(args.in[0].f32() + row * n, static_cast<size_t>(visible), attributes_.log, output_, e, y);
        Hide(OutputAt(y, output_, visible), n - visible);
      }
    });
  }

 private:
  // Writes 0, or its code, for columns that a row does not see.
  void Hide(void* y, int64_t n) const {
    if (output_.f32) {
      std::fill_n(static_cast<float*>(y), n, 0.0f);
    } else {
      std::fill_n(static_cast<uint8_t*>(y), n, static_cast<uint8_t>(output_.zero_point));
    }
  }

  const kernels::KernelSet& set_;
  Attributes attributes_;
  kernels::Output output_;
};

}  // namespace

const Op kSoftmax = {{"softmax", Check, Infer, nullptr}, PrepareStep<SoftmaxStep>, nullptr};

}  // namespace pqi::ops
