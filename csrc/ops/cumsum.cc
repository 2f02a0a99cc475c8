// cumsum: each element becomes the sum of those up to it along one axis.
#include <algorithm>

#include "ops/families.h"
#include "ops/schema.h"
#include "ops/step_util.h"

namespace pqi::ops {
namespace {

Status Check(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckFloats(view));
  PQI_RETURN_IF_ERROR(CheckConstantKeys(view, {}));
  AttrReader attrs(view);
  attrs.Axis();
  return attrs.Finish();
}

Status Infer(const NodeView& view, const std::vector<Shape>& inputs, std::vector<Shape>* outputs) {
  AttrReader attrs(view);
  PQI_RETURN_IF_ERROR(CheckAxis(view, inputs[0], attrs.Axis()));
  return InferSame(view, inputs, outputs);
}

class CumsumStep : public Step {
 public:
  CumsumStep(const NodeView& view, const kernels::KernelSet& set) : set_(set), output_(OutputOf(view)) {
    AttrReader attrs(view);
    axis_ = attrs.Axis();
    info_ = {ElementwiseName(set), "", 0};
  }

  // Sums are chains of additions, one for each place of the other axes. Chains that are neighbours in memory run side by side.
  void Run(const RunArgs& args) const noexcept override {
    const ConcreteShape& shape = *args.out.shape;
    const int64_t length = shape[axis_];
    int64_t inner = 1;
    for (size_t d = axis_ + 1; d < shape.size(); ++d) inner *= shape[d];
    ParallelFor(args.pool, args.out.count() / length, kGrain / length + 1, [&](int64_t begin, int64_t end) {
      while (begin < end) {
        const int64_t at = begin % inner, count = std::min(end - begin, inner - at), first = begin / inner * length * inner + at;
        Chains(args.in[0].f32() + first, args.out.mutable_f32() + first, length, inner, count);
        begin += count;
      }
    });
  }

 private:
  // `count` chains of `length` elements each, which lie `inner` apart.
  void Chains(const float* x, float* y, int64_t length, int64_t inner, int64_t count) const {
    for (int64_t i = 0; i < count; ++i) y[i] = 0.0f + x[i];  // not a copy: -0 becomes +0
    for (int64_t k = 1; k < length; ++k) {
      const float* before = y + (k - 1) * inner;
      if (count == 1) {
        y[k * inner] = before[0] + x[k * inner];
      } else {
        set_.add_f32(before, x + k * inner, static_cast<size_t>(count), output_, y + k * inner);
      }
    }
  }

  const kernels::KernelSet& set_;
  kernels::Output output_;
  size_t axis_ = 0;
};

}  // namespace

const Op kCumsum = {{"cumsum", Check, Infer, nullptr}, PrepareStep<CumsumStep>, nullptr};

}  // namespace pqi::ops
