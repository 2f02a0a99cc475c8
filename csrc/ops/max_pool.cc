// max_pool2d over NHWC images.
#include <algorithm>
#include <limits>

#include "kernels/reference/pool.h"
#include "ops/families.h"
#include "ops/max_pool_codes.h"
#include "ops/parts.h"
#include "ops/schema.h"
#include "ops/step_util.h"
#include "ops/window.h"

namespace pqi::ops {
namespace {

struct Attributes {
  WindowAxis rows, columns;
};

Attributes ReadAttributes(AttrReader* attrs) {
  const auto kernel = attrs->UintList<2>("kernel", 1, kMaxWindowAttr);
  const auto stride = attrs->UintList<2>("stride", 1, kMaxWindowAttr);
  const auto padding = attrs->UintList<4>("padding", 0, kMaxWindowAttr);
  const auto dilation = attrs->UintList<2>("dilation", 1, kMaxWindowAttr);
  const bool ceil_mode = attrs->Flag("ceil_mode");
  return {{kernel[0], stride[0], padding[0], padding[2], dilation[0], ceil_mode},
          {kernel[1], stride[1], padding[1], padding[3], dilation[1], ceil_mode}};
}

Status Check(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckArity(view, 1, 1));
  PQI_RETURN_IF_ERROR(CheckMovement(view));
  AttrReader attrs(view);
  ReadAttributes(&attrs);
  return attrs.Finish();
}

Status Infer(const NodeView& view, const std::vector<Shape>& inputs, std::vector<Shape>* outputs) {
  AttrReader attrs(view);
  const Attributes a = ReadAttributes(&attrs);
  PQI_RETURN_IF_ERROR(CheckRank(view, inputs, 0, 4));
  Shape out = inputs[0];
  PQI_RETURN_IF_ERROR(InferWindow(view, a.rows, inputs[0][1], true, &out[1]));
  PQI_RETURN_IF_ERROR(InferWindow(view, a.columns, inputs[0][2], true, &out[2]));
  outputs->assign(1, out);
  return {};
}

// Floors a quotient whose divisor is positive.
int64_t FloorDiv(int64_t a, int64_t b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }

// Output pixels [begin, end) of the largest floats, line by line: each position of the window is one pass of `maximum` over the pixels of a
// line that have it inside the image. A number takes the place of the largest so far if it is greater or NaN (docs/numerics.md).
void MaxPoolFloats(const kernels::KernelSet& set, const kernels::PoolShape& s, const float* x, float* y, int64_t begin, int64_t end) {
  const kernels::Output floats = [] {
    kernels::Output o;
    o.f32 = true;
    o.act_lo = -std::numeric_limits<float>::infinity();
    o.act_hi = std::numeric_limits<float>::infinity();
    return o;
  }();
  const size_t c = static_cast<size_t>(s.c);
  for (int64_t row = begin; row < end;) {
    const int64_t first = row % s.out_w, last = std::min(s.out_w, first + end - row), line = row / s.out_w;
    const int64_t top = line % s.out_h * s.stride_h - s.pad_top, image = line / s.out_h * s.h;
    float* out = y + row * s.c;
    std::fill_n(out, (last - first) * s.c, -std::numeric_limits<float>::infinity());
    for (int64_t kh = 0; kh < s.kh; ++kh) {
      const int64_t ih = top + kh * s.dilation_h;
      if (ih < 0 || ih >= s.h) continue;
      for (int64_t kw = 0; kw < s.kw; ++kw) {
        const int64_t shift = kw * s.dilation_w - s.pad_left;  // the window of output column v has it in column v * stride_w + shift
        const int64_t from = std::max(first, -FloorDiv(shift, s.stride_w)), to = std::min(last, FloorDiv(s.w - 1 - shift, s.stride_w) + 1);
        if (from >= to) continue;
        kernels::BinaryOperand next, most;
        next.f32 = x + ((image + ih) * s.w + from * s.stride_w + shift) * s.c;
        next.row_step = static_cast<size_t>(s.stride_w) * c;
        most.f32 = out + (from - first) * s.c;
        most.row_step = c;
        set.binary(kernels::BinaryFunction::kMaximum, next, most, static_cast<size_t>(to - from), c, floats, out + (from - first) * s.c);
      }
    }
    row += last - first;
  }
}

class MaxPoolStep : public Step {
 public:
  MaxPoolStep(const NodeView& view, const kernels::KernelSet& set) : set_(set), is_u8_(view.input(0).dtype == DType::kU8) {
    AttrReader attrs(view);
    const Attributes a = ReadAttributes(&attrs);
    shape_ = PoolShapeOf(a.rows, a.columns);
    info_ = {ElementwiseName(set), "", 0};
  }

  size_t ScratchBytes(const ConcreteShape& in, const ConcreteShape& out) const override {
    return Codes() ? MaxPoolCodesScratch(BindPool(shape_, in, out)) : 0;
  }

  void Run(const RunArgs& args) const noexcept override {
    const kernels::PoolShape s = BindPool(shape_, *args.in[0].shape, *args.out.shape);
    ForEachPart(args.pool, s.rows(), s.c * s.kh * s.kw, [&](int64_t begin, int64_t end, int64_t part) {
      if (Codes()) {
        MaxPoolCodes(set_, s, args.in[0].u8(), args.out.mutable_u8(), begin, end, args.Scratch(part));
      } else if (is_u8_) {
        kernels::reference::MaxPoolU8(s, args.in[0].u8(), args.out.mutable_u8(), begin, end);
      } else if (set_.isa != Isa::kReference) {
        MaxPoolFloats(set_, s, args.in[0].f32(), args.out.mutable_f32(), begin, end);
      } else {
        kernels::reference::MaxPoolF32(s, args.in[0].f32(), args.out.mutable_f32(), begin, end);
      }
    });
  }

 private:
  bool Codes() const { return is_u8_ && set_.isa != Isa::kReference; }

  const kernels::KernelSet& set_;
  bool is_u8_;
  kernels::PoolShape shape_;
};

}  // namespace

const Op kMaxPool2d = {{"max_pool2d", Check, Infer, nullptr}, PrepareStep<MaxPoolStep>, nullptr};

}  // namespace pqi::ops
