// Random images and windows over them, for tests of packed layers.
#pragma once

#include <vector>

#include "kernels/shapes.h"
#include "tests/kernels/cases.h"

namespace pqi::test {

// Up to three images of 1 to `largest` rows and columns under a window with any stride, dilation and padding, which may not fit. Channels
// and groups are left to the caller.
inline kernels::ConvShape RandomWindow(Random* random, int64_t largest) {
  kernels::ConvShape s;
  s.n = random->Int(1, 3);
  s.h = random->Int(1, largest);
  s.w = random->Int(1, largest);
  s.kh = random->Pick(std::vector<int64_t>{1, 1, 3, 3, 5, 7});
  s.kw = random->Int(0, 3) == 0 ? random->Pick(std::vector<int64_t>{1, 3, 5}) : s.kh;
  s.stride_h = random->Int(1, 3);
  s.stride_w = random->Int(1, 3);
  s.dilation_h = random->Int(1, 2);
  s.dilation_w = random->Int(1, 2);
  s.pad_top = random->Int(0, s.kh);
  s.pad_left = random->Int(0, s.kw);
  s.pad_bottom = random->Int(0, s.kh);
  s.pad_right = random->Int(0, s.kw);
  return s;
}

// Does the window fit into the padded image, with at most `macs` multiply-accumulates in all?
inline bool Fits(const kernels::ConvShape& s, int64_t macs) {
  return s.h + s.pad_top + s.pad_bottom > s.dilation_h * (s.kh - 1) && s.w + s.pad_left + s.pad_right > s.dilation_w * (s.kw - 1) &&
         s.rows() * s.oc * s.taps() * s.group_inputs() < macs;
}

}  // namespace pqi::test
