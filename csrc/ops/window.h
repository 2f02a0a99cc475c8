// Sliding windows along one axis: output length and what a window covers. Shared by convolutions and pools.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "graph/op_def.h"

namespace pqi::ops {

// One spatial axis of a convolution or pool. All numbers are bounded by kMaxWindowAttr, so nothing below overflows int64.
struct WindowAxis {
  int64_t kernel = 1;
  int64_t stride = 1;
  int64_t pad_before = 0;
  int64_t pad_after = 0;
  int64_t dilation = 1;
  bool ceil_mode = false;

  int64_t reach() const { return dilation * (kernel - 1) + 1; }
  // How many windows there are over `length` positions; <= 0 if not even one fits.
  int64_t Count(int64_t length) const;
  // Whether each of the Count(length) windows holds at least one position inside the image.
  bool EveryWindowCovers(int64_t length) const;
};

// Gives the output dimension for an input dimension: a number for a number, the dimension itself where it is unchanged for every length,
// else
// "?". `covered` refuses windows that lie in the padding altogether.
Status InferWindow(const NodeView& view, const WindowAxis& axis, const Dim& in, bool covered, Dim* out);

}  // namespace pqi::ops
