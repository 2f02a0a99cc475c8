// A layer of codes for the planner's tests.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/shapes.h"
#include "pack/weights.h"

namespace pqi::test {

struct CodeLayer {
  kernels::ConvShape shape;
  std::vector<int8_t> codes;
  std::vector<float> scale;
  pack::WeightsU8 weights;

  // A square convolution over an image of size x size, same padding, every code `code`.
  CodeLayer(int64_t c, int64_t oc, int64_t k, int64_t size, int qmax, int8_t code) : scale(static_cast<size_t>(oc), 1.0f) {
    shape.h = shape.w = size;
    shape.c = c;
    shape.oc = oc;
    shape.kh = shape.kw = k;
    shape.pad_top = shape.pad_left = shape.pad_bottom = shape.pad_right = k / 2;
    codes.assign(static_cast<size_t>(oc * k * k * c), code);
    weights.codes = codes.data();
    weights.scale = scale.data();
    weights.qmax = qmax;
  }
  CodeLayer(const CodeLayer&) = delete;
  CodeLayer& operator=(const CodeLayer&) = delete;

  // The code of channel 0's tap.
  int8_t& tap(int64_t t) { return codes[static_cast<size_t>(t * shape.c)]; }
};

}  // namespace pqi::test
