// cumsum: each element becomes the sum of those up to it along one axis.
#include <algorithm>

#include "ops/families.h"
#include "ops/schema.h"
#include "ops/step_util.h"

namespace pqi::ops {
namespace {

Status Check(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckCounts(view, 1, 1));
  PQI_RETURN_IF_ERROR(CheckConstantKeys(view, {}));
  PQI_RETURN_IF_ERROR(CheckSameType(view));
  if (view.input(0).dtype == DType::kU8) return NodeError(view, "sums f32 or i32, got u8");
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
    integers_ = view.input(0).dtype == DType::kI32;
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
        if (integers_) {
          IntegerChains(args.in[0].i32() + first, static_cast<int32_t*>(args.out.data) + first, length, inner, count);
        } else {
          Chains(args.in[0].f32() + first, args.out.mutable_f32() + first, length, inner, count);
        }
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

  // Chains of integers, which are added modulo 2^32.
  static void IntegerChains(const int32_t* x, int32_t* y, int64_t length, int64_t inner, int64_t count) {
    std::copy_n(x, count, y);
    for (int64_t k = 1; k < length; ++k) {
      for (int64_t i = k * inner; i < k * inner + count; ++i) {
        y[i] = static_cast<int32_t>(static_cast<uint32_t>(y[i - inner]) + static_cast<uint32_t>(x[i]));
      }
    }
  }

  const kernels::KernelSet& set_;
  kernels::Output output_;
  size_t axis_ = 0;
  bool integers_ = false;
};

}  // namespace

const Op kCumsum = {{"cumsum", Check, Infer, nullptr}, PrepareStep<CumsumStep>, nullptr};

}  // namespace pqi::ops
