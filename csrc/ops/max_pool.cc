// max_pool2d over NHWC images.
#include <algorithm>

#include "kernels/reference/pool.h"
#include "ops/families.h"
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
  PQI_RETURN_IF_ERROR(CheckConstantKeys(view, {}));
  PQI_RETURN_IF_ERROR(CheckSameType(view));
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

class MaxPoolStep : public Step {
 public:
  MaxPoolStep(const NodeView& view, const kernels::KernelSet& set) : set_(set), is_u8_(view.input(0).dtype == DType::kU8) {
    AttrReader attrs(view);
    const Attributes a = ReadAttributes(&attrs);
    shape_ = PoolShapeOf(a.rows, a.columns);
    info_ = {is_u8_ ? ElementwiseName(set) : "reference", "", 0};
  }

  void Run(const RunArgs& args) const noexcept override {
    const kernels::PoolShape s = BindPool(shape_, args);
    ParallelFor(args.pool, s.rows(), kGrain / (s.c * s.kh * s.kw) + 1, [&](int64_t begin, int64_t end) {
      if (!is_u8_) {
        kernels::reference::MaxPoolF32(s, args.in[0].f32(), args.out.mutable_f32(), begin, end);
      } else if (set_.isa == Isa::kReference) {
        kernels::reference::MaxPoolU8(s, args.in[0].u8(), args.out.mutable_u8(), begin, end);
      } else {
        PoolU8(s, args.in[0].u8(), args.out.mutable_u8(), begin, end);
      }
    });
  }

 private:
  static constexpr size_t kMostPixels = 16;
  // Whole channel rows at a time: the pixels of a window that lie inside the image, kMostPixels of them per call.
  void PoolU8(const kernels::PoolShape& s, const uint8_t* x, uint8_t* y, int64_t begin, int64_t end) const {
    for (int64_t row = begin; row < end;) {
      const int64_t column = row % s.out_w, last = std::min(s.out_w, column + end - row);
      const int64_t image = row / s.out_w / s.out_h, top = row / s.out_w % s.out_h * s.stride_h - s.pad_top;
      PoolRow(s, x + image * s.h * s.w * s.c, top, column, last, y + row * s.c);
      row += last - column;
    }
  }
  // Output columns [begin, end) of windows whose first row is image row `top`.
  void PoolRow(const kernels::PoolShape& s, const uint8_t* image, int64_t top, int64_t begin, int64_t end, uint8_t* out) const {
    const size_t channels = static_cast<size_t>(s.c);
    for (int64_t column = begin; column < end; ++column, out += s.c) {
      const int64_t left = column * s.stride_w - s.pad_left;
      const uint8_t* pixels[kMostPixels];
      size_t count = 0;
      for (int64_t kh = 0, ih = top; kh < s.kh; ++kh, ih += s.dilation_h) {
        if (ih < 0 || ih >= s.h) continue;
        const uint8_t* line = image + ih * s.w * s.c;
        for (int64_t kw = 0, iw = left; kw < s.kw; ++kw, iw += s.dilation_w) {
          if (iw < 0 || iw >= s.w) continue;
          if (count == kMostPixels) {  // what there is so far joins the rest
            set_.max_u8(pixels, count, out, channels);
            pixels[0] = out;
            count = 1;
          }
          pixels[count++] = line + iw * s.c;
        }
      }
      if (count > 0) set_.max_u8(pixels, count, out, channels);
    }
  }

  const kernels::KernelSet& set_;
  bool is_u8_;
  kernels::PoolShape shape_;
};

Result<std::unique_ptr<Step>> Prepare(const PrepareContext& context) {
  return std::unique_ptr<Step>(std::make_unique<MaxPoolStep>(context.view, context.kernels));
}

}  // namespace

const Op kMaxPool2d = {{"max_pool2d", Check, Infer, nullptr}, Prepare, nullptr};

}  // namespace pqi::ops
