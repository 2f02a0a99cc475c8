// Which weights a layer tells its kernels to ask the cache for. No result shows it, so tests record the calls of the kernels.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "base/aligned.h"
#include "conv/packed_conv.h"

namespace pqi::test {

// A call of a kernel: its panel w, and the bytes [ahead, ahead + asked) that it asks for; `ahead` is nullptr if it asks for nothing.
struct KernelCall {
  const int8_t *w, *ahead;
  size_t asked;
};

// A layer in which every code, scale and input is 1.
class LayerOfOnes {
 public:
  explicit LayerOfOnes(const kernels::ConvShape& shape)
      : shape_(shape),
        codes_(static_cast<size_t>(shape.oc * shape.taps() * shape.c), 1),
        scale_(static_cast<size_t>(shape.oc), 1),
        x_(static_cast<size_t>(shape.n * shape.h * shape.w * shape.c), 1) {}

  pack::WeightsU8 Weights() const {
    pack::WeightsU8 weights;
    weights.codes = codes_.data();
    weights.scale = scale_.data();
    weights.qmax = 1;
    return weights;
  }
  // The whole layer as one part.
  void Run(const conv::PackedConvU8& packed) const {
    std::vector<uint8_t> y(static_cast<size_t>(shape_.rows() * shape_.oc));
    AlignedBuffer<uint8_t> scratch(packed.ScratchBytes(shape_));
    conv::ConvRun<uint8_t> run;
    run.shape = shape_;
    run.x = x_.data();
    run.y = y.data();
    run.y_stride = static_cast<size_t>(shape_.oc);
    packed.Run(run, {0, packed.OutputWork(shape_).rows, 0, packed.layout().panels}, scratch.data());
  }

 private:
  kernels::ConvShape shape_;
  std::vector<int8_t> codes_;
  std::vector<float> scale_;
  std::vector<uint8_t> x_;
};

// Calls fn(panel, calls, asked) for each panel in turn: how many calls had this panel, and for how many bytes of the next one,
// `panel_bytes` further on, they asked. Expects that they ask for one piece after another.
template <typename Fn>
void ForEachPanel(const std::vector<KernelCall>& calls, size_t panel_bytes, Fn&& fn) {
  ASSERT_FALSE(calls.empty());
  for (size_t i = 0; i < calls.size();) {
    const int8_t* w = calls[i].w;
    size_t count = 0, asked = 0;
    for (; i < calls.size() && calls[i].w == w; ++i, ++count) {
      if (calls[i].ahead == nullptr) continue;
      ASSERT_EQ(calls[i].ahead, w + panel_bytes + asked);
      asked += calls[i].asked;
    }
    fn(w, count, asked);
  }
}

}  // namespace pqi::test
