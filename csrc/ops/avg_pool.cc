// avg_pool2d, adaptive_avg_pool2d and mean over NHWC images: averages over windows, integer or float input, code or float output.
#include <algorithm>

#include "kernels/reference/pool.h"
#include "ops/families.h"
#include "ops/schema.h"
#include "ops/step_util.h"
#include "ops/window.h"

namespace pqi::ops {
namespace {

Status CheckAverage(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckArity(view, 1, 1));
  return CheckConstantKeys(view, {});
}

// Refuses windows of codes that are too large for their sum to fit int32.
Status CheckPositions(const NodeView& view, int64_t rows, int64_t columns) {
  if (view.input(0).dtype == DType::kF32 || rows <= kMaxPoolPositions / columns) return {};
  return NodeError(view, "a window of " + std::to_string(rows) + " x " + std::to_string(columns) + " positions is larger than 2^23");
}

// The most positions that a window of a pool holds which divides `length` into `out` pieces.
int64_t LongestPiece(int64_t length, int64_t out) { return std::min(length, (length - 1) / out + 2); }

// ---- avg_pool2d

struct AvgAttributes {
  WindowAxis rows, columns;
  bool count_include_pad = false;
};

AvgAttributes ReadAvg(AttrReader* attrs) {
  const auto kernel = attrs->UintList<2>("kernel", 1, kMaxWindowAttr);
  const auto stride = attrs->UintList<2>("stride", 1, kMaxWindowAttr);
  const auto padding = attrs->UintList<4>("padding", 0, kMaxWindowAttr);
  const bool ceil_mode = attrs->Flag("ceil_mode");
  const bool count_include_pad = attrs->Flag("count_include_pad");
  return {{kernel[0], stride[0], padding[0], padding[2], 1, ceil_mode},
          {kernel[1], stride[1], padding[1], padding[3], 1, ceil_mode},
          count_include_pad};
}

Status CheckAvg(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckAverage(view));
  AttrReader attrs(view);
  const AvgAttributes a = ReadAvg(&attrs);
  PQI_RETURN_IF_ERROR(attrs.Finish());
  return CheckPositions(view, a.rows.kernel, a.columns.kernel);
}

Status InferAvg(const NodeView& view, const std::vector<Shape>& inputs, std::vector<Shape>* outputs) {
  AttrReader attrs(view);
  const AvgAttributes a = ReadAvg(&attrs);
  PQI_RETURN_IF_ERROR(CheckRank(view, inputs, 0, 4));
  Shape out = inputs[0];
  PQI_RETURN_IF_ERROR(InferWindow(view, a.rows, inputs[0][1], !a.count_include_pad, &out[1]));
  PQI_RETURN_IF_ERROR(InferWindow(view, a.columns, inputs[0][2], !a.count_include_pad, &out[2]));
  outputs->assign(1, out);
  return {};
}

// ---- adaptive_avg_pool2d and mean: the image is divided into out_h x out_w windows

struct Grid {
  int64_t rows = 1, columns = 1;
};

Grid ReadGrid(const NodeView& view) {
  if (view.node.op == kMean.def.name) return {};
  AttrReader attrs(view);
  const auto output = attrs.UintList<2>("output", 1, kMaxWindowAttr);
  return {output[0], output[1]};
}

Status CheckAdaptive(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckAverage(view));
  AttrReader attrs(view);
  attrs.UintList<2>("output", 1, kMaxWindowAttr);
  return attrs.Finish();
}

Status CheckMean(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckAverage(view));
  AttrReader attrs(view);
  attrs.Flag("keepdim");
  return attrs.Finish();
}

Status InferGrid(const NodeView& view, const std::vector<Shape>& inputs, std::vector<Shape>* outputs) {
  PQI_RETURN_IF_ERROR(CheckRank(view, inputs, 0, 4));
  const Grid grid = ReadGrid(view);
  const Dim &h = inputs[0][1], &w = inputs[0][2];
  if ((h.fixed() && h.value < 1) || (w.fixed() && w.value < 1)) {
    return NodeError(view, "the image must have at least 1 position, got " + ShapeText(view.graph, inputs[0]));
  }
  if (h.fixed() && w.fixed()) {
    PQI_RETURN_IF_ERROR(CheckPositions(view, LongestPiece(h.value, grid.rows), LongestPiece(w.value, grid.columns)));
  }
  const bool flat = view.node.op == kMean.def.name && std::get<uint64_t>(view.node.attrs.at("keepdim")) == 0;
  if (flat) {
    outputs->assign(1, Shape{inputs[0][0], inputs[0][3]});
  } else {
    outputs->assign(1, Shape{inputs[0][0], Dim::Fixed(grid.rows), Dim::Fixed(grid.columns), inputs[0][3]});
  }
  return {};
}

// ---- running

class AverageStep : public Step {
 public:
  // Windows of an adaptive pool come from out_h and out_w alone.
  AverageStep(const NodeView& view, const kernels::KernelSet& set, const kernels::PoolShape& shape, bool adaptive)
      : set_(set),
        shape_(shape),
        adaptive_(adaptive),
        is_u8_(view.input(0).dtype == DType::kU8),
        affine_(AffineOf(view.graph, view.input(0))) {
    output_ = OutputOf(view);
    info_ = {ElementwiseName(set), "", 0};
  }

  void Run(const RunArgs& args) const noexcept override {
    kernels::PoolShape s = shape_;
    if (adaptive_) {
      s.n = args.in[0].dim(0);
      s.h = args.in[0].dim(1);
      s.w = args.in[0].dim(2);
      s.c = args.in[0].dim(3);
    } else {
      s = BindPool(shape_, *args.in[0].shape, *args.out.shape);
    }
    const int64_t window = adaptive_ ? LongestPiece(s.h, s.out_h) * LongestPiece(s.w, s.out_w) : s.kh * s.kw;
    ParallelFor(args.pool, s.rows(), kGrain / (s.c * window) + 1, [&](int64_t begin, int64_t end) {
      if (set_.isa == Isa::kReference) return Plain(s, args, begin, end);
      for (int64_t row = begin; row < end; ++row) {
        const kernels::reference::PoolBox box = adaptive_ ? kernels::reference::AdaptiveBox(s, row) : kernels::reference::AvgBox(s, row);
        for (int64_t c = 0; c < s.c; c += kChunk) {
          float mean[kChunk];
          const int64_t count = std::min(kChunk, s.c - c);
          if (is_u8_) {
            MeanOfCodes(s, args.in[0].u8() + c, box, mean, count);
          } else {
            MeanOfFloats(s, args.in[0].f32() + c, box, mean, count);
          }
          void* to = OutputAt(args.out.data, output_, row * s.c + c);
          if (output_.f32) {
            std::copy_n(mean, count, static_cast<float*>(to));
          } else {
            set_.quantize(mean, static_cast<uint8_t*>(to), static_cast<size_t>(count), output_);
          }
        }
      }
    });
  }

 private:
  static constexpr int64_t kChunk = 64;  // channels whose sums stay in L1

  void Plain(const kernels::PoolShape& s, const RunArgs& args, int64_t begin, int64_t end) const {
    namespace reference = kernels::reference;
    if (is_u8_) {
      const auto pool = adaptive_ ? reference::AdaptiveAvgPoolU8 : reference::AvgPoolU8;
      pool(s, args.in[0].u8(), affine_, output_, args.out.data, begin, end);
    } else {
      const auto pool = adaptive_ ? reference::AdaptiveAvgPoolF32 : reference::AvgPoolF32;
      pool(s, args.in[0].f32(), output_, args.out.data, begin, end);
    }
  }

  // Calls fn(positions, their number, number of the first) for each line of a window. x points to the first channel of the first image.
  template <class T, class Fn>
  static void ForEachLine(const kernels::PoolShape& s, const T* x, const kernels::reference::PoolBox& box, Fn&& fn) {
    const int64_t width = box.x1 - box.x0;
    for (int64_t y = box.y0; y < box.y1; ++y) {
      fn(x + ((box.image * s.h + y) * s.w + box.x0) * s.c, static_cast<size_t>(std::max<int64_t>(width, 0)),
         static_cast<size_t>((y - box.y0) * width));
    }
  }

  // f32(f32(sum - k*z) * f32(s/n)) of k positions inside the image.
  void MeanOfCodes(const kernels::PoolShape& s, const uint8_t* x, const kernels::reference::PoolBox& box, float* mean,
                   int64_t count) const {
    int32_t sum[kChunk] = {};
    int64_t inside = 0;
    ForEachLine(s, x, box, [&](const uint8_t* line, size_t positions, size_t) {
      inside += static_cast<int64_t>(positions);
      set_.sum_u8(line, static_cast<size_t>(s.c), positions, sum, static_cast<size_t>(count));
    });
    const float factor = static_cast<float>(static_cast<double>(affine_.scale) / static_cast<double>(box.n));
    const int32_t offset = static_cast<int32_t>(inside) * affine_.zero_point;  // inside <= 2^23
    for (int64_t i = 0; i < count; ++i) mean[i] = static_cast<float>(sum[i] - offset) * factor;
  }

  // f32(sum16 / n).
  void MeanOfFloats(const kernels::PoolShape& s, const float* x, const kernels::reference::PoolBox& box, float* mean, int64_t count) const {
    const int64_t inside = std::max<int64_t>((box.y1 - box.y0) * (box.x1 - box.x0), 0);
    const int64_t used = std::clamp<int64_t>(inside, 1, 16);  // the other lanes stay +0, and to add that changes nothing
    float lanes[16 * kChunk];
    std::fill_n(lanes, used * count, 0.0f);
    ForEachLine(s, x, box, [&](const float* line, size_t positions, size_t first) {
      set_.sum_lanes(line, static_cast<size_t>(s.c), positions, first, lanes, static_cast<size_t>(count));
    });
    for (int64_t half = 8; half >= 1; half /= 2) {
      const int64_t added = std::min(half, used - half);  // lanes from `used` on are not there
      for (int64_t i = 0; i < added * count; ++i) lanes[i] += lanes[half * count + i];
    }
    for (int64_t i = 0; i < count; ++i) mean[i] = lanes[i] / static_cast<float>(box.n);
  }

  const kernels::KernelSet& set_;
  kernels::PoolShape shape_;
  bool adaptive_, is_u8_;
  kernels::Affine affine_;
  kernels::Output output_;
};

Result<std::unique_ptr<Step>> PrepareAvg(const PrepareContext& context) {
  AttrReader attrs(context.view);
  const AvgAttributes a = ReadAvg(&attrs);
  kernels::PoolShape shape = PoolShapeOf(a.rows, a.columns);
  shape.count_include_pad = a.count_include_pad;
  return std::unique_ptr<Step>(std::make_unique<AverageStep>(context.view, context.kernels, shape, false));
}

Result<std::unique_ptr<Step>> PrepareGrid(const PrepareContext& context) {
  const Grid grid = ReadGrid(context.view);
  kernels::PoolShape shape;
  shape.out_h = grid.rows;
  shape.out_w = grid.columns;
  return std::unique_ptr<Step>(std::make_unique<AverageStep>(context.view, context.kernels, shape, true));
}

}  // namespace

const Op kAvgPool2d = {{"avg_pool2d", CheckAvg, InferAvg, nullptr}, PrepareAvg, nullptr};
const Op kAdaptiveAvgPool2d = {{"adaptive_avg_pool2d", CheckAdaptive, InferGrid, nullptr}, PrepareGrid, nullptr};
const Op kMean = {{"mean", CheckMean, InferGrid, nullptr}, PrepareGrid, nullptr};

}  // namespace pqi::ops
