// Weights of a convolution or linear layer as the file has them. Nothing here owns memory.
#pragma once

#include <cstdint>

#include "base/aligned.h"
#include "kernels/shapes.h"

namespace pqi::pack {

// Weight codes of an integer layer, and what turns its sums into results (docs/numerics.md, "conv2d").
struct WeightsU8 {
  const int8_t* codes = nullptr;  // [oc][kh][kw][c/groups]
  int32_t step = 1;
  const float* scale = nullptr;   // [oc] f32(s_a * s_w[c])
  const float* bias = nullptr;    // [oc]; nullptr: the layer has no bias
  const int32_t* base = nullptr;  // [oc]; nullptr: every base is 0
  int32_t zero_point = 0;         // z_a, the zero point of the activations
  int32_t qmin = 0, qmax = 255;   // every activation code lies in [qmin, qmax]; only proofs and Winograd's offsets read this
};
struct WeightsF32 {
  const float* weights = nullptr;  // [oc][kh][kw][c/groups]
  const float* bias = nullptr;     // [oc]; nullptr: the layer has no bias
};

// Where each channel's sum starts: (offset - z_a) * sum(code), where the kernel's product subtracts `offset` from every activation code.
// Only a finished sum is known to fit int32, so the arithmetic wraps. Throws std::bad_alloc.
AlignedBuffer<int32_t> StartValues(const kernels::ConvShape& shape, const WeightsU8& weights, int32_t offset);

// The largest |y| before a residual that any activation codes can give, in exact arithmetic; infinity where a parameter is not finite.
double LargestResult(const kernels::ConvShape& shape, const WeightsU8& weights);

}  // namespace pqi::pack
