// quantize and dequantize, optionally changing between the NCHW of a model's ports and the engine's NHWC.
#include "kernels/reference/quantize.h"

#include <algorithm>

#include "ops/families.h"
#include "ops/schema.h"
#include "ops/step_util.h"

namespace pqi::ops {
namespace {

// Gives the index of the layout attribute: 0 for "same", 1 for the other one.
int ReadLayout(AttrReader* attrs, const char* other) { return attrs->Choice("layout", {"same", other}); }

Status CheckConversion(const NodeView& view, DType from, DType to, const char* other_layout) {
  PQI_RETURN_IF_ERROR(CheckArity(view, 1, 1));
  PQI_RETURN_IF_ERROR(CheckConstantKeys(view, {}));
  PQI_RETURN_IF_ERROR(CheckDType(view, view.input(0), "input", from));
  PQI_RETURN_IF_ERROR(CheckDType(view, view.output(0), "output", to));
  AttrReader attrs(view);
  ReadLayout(&attrs, other_layout);
  return attrs.Finish();
}

Status CheckQuantize(const NodeView& view) { return CheckConversion(view, DType::kF32, DType::kU8, "to_nhwc"); }
Status CheckDequantize(const NodeView& view) { return CheckConversion(view, DType::kU8, DType::kF32, "to_nchw"); }

bool ChangesLayout(const NodeView& view) { return std::get<std::string>(view.node.attrs.at("layout")) != "same"; }

Status InferConversion(const NodeView& view, const std::vector<Shape>& inputs, std::vector<Shape>* outputs) {
  const Shape& x = inputs[0];
  outputs->assign(1, x);
  if (!ChangesLayout(view)) return {};
  PQI_RETURN_IF_ERROR(CheckRank(view, inputs, 0, 4));
  const bool to_nhwc = view.node.op == kQuantize.def.name;
  outputs->front() = to_nhwc ? Shape{x[0], x[2], x[3], x[1]} : Shape{x[0], x[3], x[1], x[2]};
  return {};
}

class QuantizeStep : public Step {
 public:
  QuantizeStep(const NodeView& view, const kernels::KernelSet& set) : set_(set), to_nhwc_(ChangesLayout(view)) {
    output_ = OutputOf(view);
    info_ = {ElementwiseName(set), to_nhwc_ ? "NCHW planes to NHWC pixels" : "", 0};
  }

  void Run(const RunArgs& args) const noexcept override {
    const float* x = args.in[0].f32();
    uint8_t* y = args.out.mutable_u8();
    if (!to_nhwc_) {
      ParallelFor(args.pool, args.out.count(), kGrain,
                  [&](int64_t begin, int64_t end) { set_.quantize(x + begin, y + begin, static_cast<size_t>(end - begin), output_); });
      return;
    }
    const int64_t channels = args.in[0].dim(1), plane = args.in[0].dim(2) * args.in[0].dim(3);
    ParallelFor(args.pool, args.in[0].dim(0) * plane, kGrain / channels + 1, [&](int64_t begin, int64_t end) {
      while (begin < end) {  // a part may end in another image than it begins in
        const int64_t image = begin / plane, first = begin % plane;
        const int64_t pixels = std::min(end - begin, plane - first);
        set_.quantize_to_nhwc(x + image * channels * plane + first, static_cast<size_t>(plane), static_cast<size_t>(channels),
                              static_cast<size_t>(pixels), y + begin * channels, output_);
        begin += pixels;
      }
    });
  }

 private:
  const kernels::KernelSet& set_;
  bool to_nhwc_;
  kernels::Output output_;
};

class DequantizeStep : public Step {
 public:
  DequantizeStep(const NodeView& view, const kernels::KernelSet& set)
      : set_(set), to_nchw_(ChangesLayout(view)), affine_(AffineOf(view.graph, view.input(0))) {
    info_ = {to_nchw_ ? "reference" : ElementwiseName(set), to_nchw_ ? "NHWC pixels to NCHW planes" : "", 0};
  }

  void Run(const RunArgs& args) const noexcept override {
    const uint8_t* x = args.in[0].u8();
    float* y = args.out.mutable_f32();
    if (!to_nchw_) {
      ParallelFor(args.pool, args.out.count(), kGrain,
                  [&](int64_t begin, int64_t end) { set_.dequantize(x + begin, y + begin, static_cast<size_t>(end - begin), affine_); });
      return;
    }
    const int64_t channels = args.in[0].dim(3), plane = args.in[0].dim(1) * args.in[0].dim(2);
    ParallelFor(args.pool, args.in[0].dim(0) * channels, kGrain / plane + 1, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const uint8_t* from = x + row / channels * plane * channels + row % channels;
        for (int64_t p = 0; p < plane; ++p) y[row * plane + p] = kernels::reference::DequantizeValue(from[p * channels], affine_);
      }
    });
  }

 private:
  const kernels::KernelSet& set_;
  bool to_nchw_;
  kernels::Affine affine_;
};

}  // namespace

const Op kQuantize = {{"quantize", CheckQuantize, InferConversion, nullptr}, PrepareStep<QuantizeStep>, nullptr};
const Op kDequantize = {{"dequantize", CheckDequantize, InferConversion, nullptr}, PrepareStep<DequantizeStep>, nullptr};

}  // namespace pqi::ops
