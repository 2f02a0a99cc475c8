// pixel_shuffle: channels of an NHWC image become pixels between its pixels, less a border. Transposed convolutions end with one.
#include <algorithm>
#include <array>
#include <cstring>

#include "ops/families.h"
#include "ops/schema.h"
#include "ops/step_util.h"

namespace pqi::ops {
namespace {

struct Attributes {
  std::array<int64_t, 2> factor{};
  std::array<int64_t, 4> crop{};  // top, left, bottom, right
  bool pixel_major = false;       // whether the channels of one new pixel are neighbours; else the pixels of one channel are
};

Attributes ReadAttributes(AttrReader* attrs) {
  return {attrs->UintList<2>("factor", 1, kMaxWindowAttr), attrs->UintList<4>("crop", 0, kMaxWindowAttr),
          attrs->Choice("order", {"channels", "pixels"}) == 1};
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
  const int64_t parts = a.factor[0] * a.factor[1];  // < 2^32
  const Dim& channels = inputs[0][3];
  if (channels.fixed() && channels.value % parts != 0) {
    return NodeError(view, std::to_string(channels.value) + " channels cannot be divided into " + std::to_string(parts));
  }
  Shape out = inputs[0];
  for (size_t i = 0; i < 2; ++i) {
    Dim& dim = out[1 + i];
    const int64_t crop = a.crop[i] + a.crop[2 + i];
    if (dim.fixed()) {
      dim = Dim::Fixed(std::max<int64_t>(dim.value * a.factor[i] - crop, 0));  // < 2^47
    } else if (a.factor[i] != 1 || crop != 0) {
      dim = Dim::Derived();
    }
  }
  if (channels.fixed()) {
    out[3] = Dim::Fixed(channels.value / parts);
  } else if (parts != 1) {
    out[3] = Dim::Derived();
  }
  outputs->assign(1, out);
  return {};
}

class PixelShuffleStep : public Step {
 public:
  explicit PixelShuffleStep(const NodeView& view) : element_size_(DTypeSize(view.output(0).dtype)) {
    AttrReader attrs(view);
    a_ = ReadAttributes(&attrs);
    info_ = {"copy", "data movement", 0};
  }

  void Run(const RunArgs& args) const noexcept override {
    const int64_t rows = args.out.dim(0) * args.out.dim(1), row_elements = args.out.dim(2) * args.out.dim(3);
    ByElementSize(args, element_size_, [&](const auto* x, auto* y) {
      ParallelFor(args.pool, rows, kGrain / row_elements + 1, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) Row(args, x, y + row * row_elements, row);
      });
    });
  }

 private:
  template <typename T>
  void Row(const RunArgs& args, const T* x, T* y, int64_t row) const {
    const int64_t out_h = args.out.dim(1), out_w = args.out.dim(2), channels = args.out.dim(3), in_channels = args.in[0].dim(3);
    const int64_t parts = a_.factor[0] * a_.factor[1];
    const int64_t at_h = row % out_h + a_.crop[0];
    const int64_t line = row / out_h * args.in[0].dim(1) + at_h / a_.factor[0];
    const int64_t first = at_h % a_.factor[0] * a_.factor[1];
    for (int64_t i = 0; i < out_w; ++i) {
      const int64_t at_w = i + a_.crop[1];
      const T* from = x + (line * args.in[0].dim(2) + at_w / a_.factor[1]) * in_channels;
      const int64_t part = first + at_w % a_.factor[1];
      if (a_.pixel_major) {
        std::memcpy(y + i * channels, from + part * channels, static_cast<size_t>(channels) * sizeof(T));
      } else {
        for (int64_t c = 0; c < channels; ++c) y[i * channels + c] = from[c * parts + part];
      }
    }
  }

  size_t element_size_;
  Attributes a_;
};

}  // namespace

const Op kPixelShuffle = {{"pixel_shuffle", Check, Infer, nullptr}, PrepareStep<PixelShuffleStep>, nullptr};

}  // namespace pqi::ops
