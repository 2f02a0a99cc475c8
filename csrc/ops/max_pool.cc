// max_pool2d over NHWC images.
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

class MaxPoolStep : public Step {
 public:
  MaxPoolStep(const NodeView& view, const kernels::KernelSet& set) : set_(set), is_u8_(view.input(0).dtype == DType::kU8) {
    AttrReader attrs(view);
    const Attributes a = ReadAttributes(&attrs);
    shape_ = PoolShapeOf(a.rows, a.columns);
    info_ = {is_u8_ ? ElementwiseName(set) : "reference", "", 0};
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
