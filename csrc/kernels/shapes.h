// Shapes of convolutions and pools over NHWC images, shared by the reference, the packer and the ops.
#pragma once

#include <cstdint>

namespace pqi::kernels {

// How many positions a window of `kernel` elements, `dilation` apart, has over `padded` elements, padding included.
inline int64_t WindowCount(int64_t padded, int64_t kernel, int64_t stride, int64_t dilation) {
  return (padded - dilation * (kernel - 1) - 1) / stride + 1;
}

// A convolution. A linear layer over m rows is one of 1x1 with n = m, h = w = 1.
struct ConvShape {
  int64_t n = 1, h = 1, w = 1, c = 1;  // the input's shape
  int64_t oc = 1, kh = 1, kw = 1;
  int64_t stride_h = 1, stride_w = 1;
  int64_t pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;
  int64_t dilation_h = 1, dilation_w = 1;
  int64_t groups = 1;

  int64_t out_h() const { return WindowCount(h + pad_top + pad_bottom, kh, stride_h, dilation_h); }
  int64_t out_w() const { return WindowCount(w + pad_left + pad_right, kw, stride_w, dilation_w); }
  int64_t rows() const { return n * out_h() * out_w(); }  // the number of output pixels
  int64_t taps() const { return kh * kw; }
  int64_t group_inputs() const { return c / groups; }
  int64_t group_outputs() const { return oc / groups; }
  bool depthwise() const { return groups > 1 && groups == c && groups == oc; }
  // True if output pixel r reads exactly input pixel r: 1x1, stride 1, no padding.
  bool pointwise() const {
    return taps() == 1 && stride_h == 1 && stride_w == 1 && pad_top == 0 && pad_left == 0 && pad_bottom == 0 && pad_right == 0;
  }
};

// A pool. out_h and out_w are given, because ceil mode makes them a matter of the op. pad_bottom and pad_right only count for averages that
// include the padding.
struct PoolShape {
  int64_t n = 1, h = 1, w = 1, c = 1;
  int64_t out_h = 1, out_w = 1;
  int64_t kh = 1, kw = 1;
  int64_t stride_h = 1, stride_w = 1;
  int64_t pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;
  int64_t dilation_h = 1, dilation_w = 1;  // for a max pool only
  bool count_include_pad = false;          // for an average pool only

  int64_t rows() const { return n * out_h * out_w; }
};

}  // namespace pqi::kernels
