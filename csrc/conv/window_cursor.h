// The input under the windows of successive output pixels.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "conv/copy_few.h"
#include "kernels/shapes.h"

namespace pqi::conv {

// Walks over output pixels and finds the input under their windows.
template <typename T>
class WindowCursor {
 public:
  // `offsets` is filled here; `padding` stands for every tap outside the image.
  WindowCursor(const kernels::ConvShape& shape, const T* x, const T* padding, ptrdiff_t* offsets)
      : s_(shape), x_(x), padding_(padding), offsets_(offsets), out_h_(shape.out_h()), out_w_(shape.out_w()) {
    for (int64_t kh = 0; kh < s_.kh; ++kh) {
      for (int64_t kw = 0; kw < s_.kw; ++kw) offsets[kh * s_.kw + kw] = (kh * s_.dilation_h * s_.w + kw * s_.dilation_w) * s_.c;
    }
  }

  void Seek(int64_t row) {
    out_x_ = row % out_w_;
    out_y_ = row / out_w_ % out_h_;
    image_ = row / out_w_ / out_h_;
    Locate();
  }
  void Next() {
    if (++out_x_ < out_w_) {
      x0_ += s_.stride_w;
      first_ += s_.stride_w * s_.c;
      return;
    }
    out_x_ = 0;
    if (++out_y_ == out_h_) {
      out_y_ = 0;
      ++image_;
    }
    Locate();
  }

  // How many of the next `most` pixels, this one first, lie in its output row and have windows that cross neither the left nor the right
  // border.
  int64_t Interior(int64_t most) const {
    const int64_t room = s_.w - 1 - (s_.kw - 1) * s_.dilation_w - x0_;
    if (x0_ < 0 || room < 0) return 0;
    most = std::min(most, out_w_ - out_x_);
    return (most - 1) * s_.stride_w <= room ? most : room / s_.stride_w + 1;
  }
  // Pointers of `count` interior pixels: pointers[tap * stride + i], or with `runs` one for each kernel row. Then goes on behind them.
  void InteriorPointers(int64_t channel, bool runs, int64_t count, const T** pointers, size_t stride) {
    const int64_t across = runs ? 1 : s_.kw, step = s_.stride_w * s_.c;
    for (int64_t kh = 0; kh < s_.kh; ++kh) {
      for (int64_t kw = 0; kw < across; ++kw, pointers += stride) {
        if (!RowInside(kh)) {
          std::fill(pointers, pointers + count, padding_);
          continue;
        }
        const T* at = x_ + (first_ + channel + offsets_[kh * s_.kw + kw]);
        for (int64_t i = 0; i < count; ++i) pointers[i] = at + i * step;
      }
    }
    out_x_ += count - 1;
    x0_ += (count - 1) * s_.stride_w;
    first_ += (count - 1) * step;
    Next();
  }

  // pointers[tap * stride] = first channel of the tap's pixel plus `channel`, or the padding.
  void Pointers(int64_t channel, const T** pointers, size_t stride) const {
    const int64_t first = first_ + channel;
    if (InsideRows() && x0_ >= 0 && x0_ + (s_.kw - 1) * s_.dilation_w < s_.w) {
      for (int64_t tap = 0; tap < s_.taps(); ++tap) pointers[static_cast<size_t>(tap) * stride] = x_ + (first + offsets_[tap]);
      return;
    }
    for (int64_t kh = 0, tap = 0; kh < s_.kh; ++kh) {
      for (int64_t kw = 0; kw < s_.kw; ++kw, ++tap) {
        const bool inside = RowInside(kh) && ColumnInside(kw);
        pointers[static_cast<size_t>(tap) * stride] = inside ? x_ + (first + offsets_[tap]) : padding_;
      }
    }
  }

  // One pointer per kernel row. A row that crosses the left or right border is copied to window + kh*kw*c.
  void RunPointers(const T** pointers, size_t stride, T* window) const {
    const bool inside = x0_ >= 0 && x0_ + s_.kw <= s_.w;
    const int64_t next = s_.dilation_h * s_.w * s_.c;
    int64_t kh = 0;
    for (; kh < kh_begin_; ++kh, pointers += stride) *pointers = padding_;
    if (inside) {
      const T* from = x_ + (first_ + kh * next);
      for (; kh < kh_end_; ++kh, pointers += stride, from += next) *pointers = from;
    } else {
      for (; kh < kh_end_; ++kh, pointers += stride) {
        *pointers = window + kh * s_.kw * s_.c;
        CopyBorderRun(kh, window + kh * s_.kw * s_.c);
      }
    }
    for (; kh < s_.kh; ++kh, pointers += stride) *pointers = padding_;
  }

  // Copies the window of the group of `count` channels from `channel` on, taps in order.
  void Gather(int64_t channel, int64_t count, T* window) const {
    const int64_t run = s_.kw * count;
    const bool neighbours = s_.dilation_w == 1 && s_.groups == 1;
    if (neighbours && InsideRows() && x0_ >= 0 && x0_ + s_.kw <= s_.w) {
      for (int64_t kh = 0; kh < s_.kh; ++kh, window += run) CopyFew(x_ + (first_ + offsets_[kh * s_.kw]), run, window);
      return;
    }
    for (int64_t kh = 0; kh < s_.kh; ++kh, window += run) {
      if (neighbours && RowInside(kh)) {
        CopyBorderRun(kh, window);
        continue;
      }
      for (int64_t kw = 0; kw < s_.kw; ++kw) {
        const bool inside = RowInside(kh) && ColumnInside(kw);
        CopyFew(inside ? x_ + (first_ + channel + offsets_[kh * s_.kw + kw]) : padding_, count, window + kw * count);
      }
    }
  }

 private:
  void Locate() {
    y0_ = out_y_ * s_.stride_h - s_.pad_top;
    x0_ = out_x_ * s_.stride_w - s_.pad_left;
    first_ = ((image_ * s_.h + y0_) * s_.w + x0_) * s_.c;
    const auto rows_before = [this](int64_t y) {  // kernel rows above image row y
      return y <= y0_ ? 0 : std::min((y - y0_ + s_.dilation_h - 1) / s_.dilation_h, s_.kh);
    };
    kh_begin_ = rows_before(0);
    kh_end_ = rows_before(s_.h);
  }
  bool InsideRows() const { return kh_begin_ == 0 && kh_end_ == s_.kh; }
  bool RowInside(int64_t kh) const { return kh >= kh_begin_ && kh < kh_end_; }
  bool ColumnInside(int64_t kw) const { return InRange(x0_ + kw * s_.dilation_w, s_.w); }
  static bool InRange(int64_t i, int64_t n) { return i >= 0 && i < n; }

  // The kw pixels under kernel row kh, of which some lie left or right of the image.
  void CopyBorderRun(int64_t kh, T* run) const {
    const int64_t begin = std::min(std::max<int64_t>(-x0_, 0), s_.kw), end = std::max(std::min(s_.w - x0_, s_.kw), begin);
    CopyFew(padding_, begin * s_.c, run);
    if (begin < end) CopyFew(x_ + (first_ + offsets_[kh * s_.kw] + begin * s_.c), (end - begin) * s_.c, run + begin * s_.c);
    CopyFew(padding_, (s_.kw - end) * s_.c, run + end * s_.c);
  }

  const kernels::ConvShape s_;
  const T* x_;
  const T* padding_;
  const ptrdiff_t* offsets_;
  int64_t out_h_, out_w_;
  int64_t image_ = 0, out_y_ = 0, out_x_ = 0;
  int64_t y0_ = 0, x0_ = 0;            // position of tap (0, 0); may be outside the image
  int64_t first_ = 0;                  // its element in x: an index, not yet a pointer
  int64_t kh_begin_ = 0, kh_end_ = 0;  // kernel rows inside the image
};

}  // namespace pqi::conv
