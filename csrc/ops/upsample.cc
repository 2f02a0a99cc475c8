// upsample: an NHWC image in another size, each pixel repeated or taken between its four neighbours.
#include "kernels/reference/upsample.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "ops/families.h"
#include "ops/schema.h"
#include "ops/step_util.h"

namespace pqi::ops {
namespace {

using kernels::reference::LinearTap;

struct Attributes {
  bool bilinear = false, align_corners = false;
  std::array<NumberOrSize, 2> size;  // for height and width
  std::array<int64_t, 2> factor{};   // 0 where `size` says the length, which is 0 elsewhere
  std::array<float, 2> step{};       // 0 where the lengths decide
};

Attributes ReadAttributes(AttrReader* attrs) {
  Attributes a;
  a.bilinear = attrs->Choice("mode", {"nearest", "bilinear"}) == 1;
  a.align_corners = attrs->Flag("align_corners");
  a.size = attrs->PairOfSizes("size", 0, kMaxWindowAttr);
  a.factor = attrs->UintList<2>("factor", 0, kMaxWindowAttr);
  const std::array<int64_t, 2> bits = attrs->UintList<2>("step", 0, UINT32_MAX);
  for (size_t i = 0; i < 2; ++i) {
    const uint32_t pattern = static_cast<uint32_t>(bits[i]);
    std::memcpy(&a.step[i], &pattern, sizeof pattern);
  }
  return a;
}

Status Check(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckArity(view, 1, 1));
  PQI_RETURN_IF_ERROR(CheckConstantKeys(view, {}));
  AttrReader attrs(view);
  const Attributes a = ReadAttributes(&attrs);
  for (size_t i = 0; i < 2; ++i) {
    if ((a.size[i].known() && a.size[i].number == 0) == (a.factor[i] == 0))
      attrs.Fail("of 'size' and 'factor' exactly one must be 0 for each axis");
    if (!std::isfinite(a.step[i]) || a.step[i] < 0) attrs.Fail("attribute 'step' must be finite and not negative");
  }
  if (a.align_corners && (!a.bilinear || a.step[0] != 0 || a.step[1] != 0)) {
    attrs.Fail("'align_corners' goes with mode bilinear and 'step' 0");
  }
  PQI_RETURN_IF_ERROR(attrs.Finish());
  return a.bilinear ? Status() : CheckSameType(view);
}

Status Infer(const NodeView& view, const std::vector<Shape>& inputs, std::vector<Shape>* outputs) {
  AttrReader attrs(view);
  const Attributes a = ReadAttributes(&attrs);
  PQI_RETURN_IF_ERROR(CheckRank(view, inputs, 0, 4));
  Shape out = inputs[0];
  for (size_t i = 0; i < 2; ++i) {
    Dim& dim = out[1 + i];
    if (dim.fixed() && dim.value < 1) {
      return NodeError(view, "the image must have at least 1 position, got " + ShapeText(view.graph, inputs[0]));
    }
    if (a.size[i].index) {
      dim = view.DimOfIndex(*a.size[i].index);
    } else if (a.size[i].number != 0) {
      dim = Dim::Fixed(a.size[i].number);
    } else if (dim.fixed()) {
      dim = Dim::Fixed(dim.value * a.factor[i]);  // < 2^47; the limit of dimensions is checked behind this
    } else if (a.factor[i] != 1) {
      dim = Dim::Derived();
    }
  }
  outputs->assign(1, out);
  return {};
}

class UpsampleStep : public Step {
 public:
  UpsampleStep(const NodeView& view, const kernels::KernelSet& set)
      : set_(set), is_u8_(view.input(0).dtype == DType::kU8), affine_(AffineOf(view.graph, view.input(0))) {
    AttrReader attrs(view);
    a_ = ReadAttributes(&attrs);
    output_ = OutputOf(view);
    info_ = {a_.bilinear ? ElementwiseName(set) : "copy", a_.bilinear ? "" : "data movement", 0};
  }

  void Run(const RunArgs& args) const noexcept override {
    const ConcreteShape &in = *args.in[0].shape, &out = *args.out.shape;
    const std::array<float, 2> step{kernels::reference::UpsampleStep(in[1], out[1], a_.step[0], a_.align_corners),
                                    kernels::reference::UpsampleStep(in[2], out[2], a_.step[1], a_.align_corners)};
    // The work is divided by lines of pixels of the output images.
    ParallelFor(args.pool, out[0] * out[1], kGrain / (out[2] * out[3]) + 1, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const int64_t image = row / out[1] * in[1], y = row % out[1];
        if (a_.bilinear) {
          BilinearRow(args, image, kernels::reference::LinearSource(y, step[0], in[1], a_.align_corners), step[1], row);
        } else {
          NearestRow(args, image + kernels::reference::NearestSource(y, step[0], in[1]), step[1], row);
        }
      }
    });
  }

 private:
  static constexpr int64_t kChunk = 128;  // how many channels are computed at a time

  void NearestRow(const RunArgs& args, int64_t source, float step, int64_t row) const {
    const int64_t columns = args.in[0].dim(2), out_columns = args.out.dim(2);
    const int64_t bytes = args.out.dim(3) * static_cast<int64_t>(is_u8_ ? 1 : sizeof(float));
    const uint8_t* x = static_cast<const uint8_t*>(args.in[0].data) + source * columns * bytes;
    uint8_t* y = static_cast<uint8_t*>(args.out.data) + row * out_columns * bytes;
    for (int64_t i = 0; i < out_columns; ++i) {
      const int64_t from = kernels::reference::NearestSource(i, step, columns);
      std::memcpy(y + i * bytes, x + from * bytes, static_cast<size_t>(bytes));
    }
  }

  void BilinearRow(const RunArgs& args, int64_t image, const LinearTap& rows, float step, int64_t row) const {
    const int64_t columns = args.in[0].dim(2), out_columns = args.out.dim(2), channels = args.out.dim(3);
    for (int64_t i = 0; i < out_columns; ++i) {
      const LinearTap tap = kernels::reference::LinearSource(i, step, columns, a_.align_corners);
      const int64_t pixel[4] = {(image + rows.first) * columns + tap.first, (image + rows.first) * columns + tap.second,
                                (image + rows.second) * columns + tap.first, (image + rows.second) * columns + tap.second};
      for (int64_t c = 0; c < channels; c += kChunk) {
        const size_t n = static_cast<size_t>(std::min(kChunk, channels - c));
        float buffer[4][kChunk];
        const float* corner[4];
        for (size_t k = 0; k < 4; ++k) corner[k] = Values(args, pixel[k] * channels + c, n, buffer[k]);
        void* to = OutputAt(args.out.data, output_, (row * out_columns + i) * channels + c);
        float mixed[kChunk];
        float* y = output_.f32 ? static_cast<float*>(to) : mixed;
        kernels::reference::Bilinear(corner[0], corner[1], corner[2], corner[3], rows, tap, n, y);
        if (!output_.f32) set_.quantize(y, static_cast<uint8_t*>(to), n, output_);
      }
    }
  }

  // Gives elements [at, at + n) of the input as floats: where they lie, or dequantized into `buffer`.
  const float* Values(const RunArgs& args, int64_t at, size_t n, float* buffer) const {
    if (!is_u8_) return args.in[0].f32() + at;
    set_.dequantize(args.in[0].u8() + at, buffer, n, affine_);
    return buffer;
  }

  const kernels::KernelSet& set_;
  bool is_u8_;
  kernels::Affine affine_;
  kernels::Output output_;
  Attributes a_;
};

}  // namespace

const Op kUpsample = {{"upsample", Check, Infer, nullptr}, PrepareStep<UpsampleStep>, nullptr};

}  // namespace pqi::ops
