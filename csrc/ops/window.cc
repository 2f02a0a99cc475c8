#include "ops/window.h"

#include "ops/schema.h"

namespace pqi::ops {

int64_t WindowAxis::Count(int64_t length) const {
  const int64_t span = length + pad_before + pad_after - reach();
  if (span < 0) return 0;
  if (!ceil_mode) return span / stride + 1;
  int64_t count = (span + stride - 1) / stride + 1;
  // torch drops a last window that would start in the padding behind the image.
  if ((count - 1) * stride >= length + pad_before) --count;
  return count;
}

bool WindowAxis::EveryWindowCovers(int64_t length) const {
  const int64_t count = Count(length);
  if ((count - 1) * stride - pad_before >= length) return false;
  // Windows that start in front of the image must have a position inside it. pad_before bounds the loop.
  for (int64_t o = 0; o < count && o * stride < pad_before; ++o) {
    const int64_t start = o * stride - pad_before;
    const int64_t first = (-start + dilation - 1) / dilation;
    if (first >= kernel || start + first * dilation >= length) return false;
  }
  return true;
}

Status InferWindow(const NodeView& view, const WindowAxis& axis, const Dim& in, bool covered, Dim* out) {
  if (!in.fixed()) {
    const bool unchanged = axis.stride == 1 && axis.pad_before + axis.pad_after == axis.reach() - 1;
    *out = unchanged ? in : Dim::Derived();
    return {};
  }
  const int64_t count = axis.Count(in.value);
  const std::string window = "a window of " + std::to_string(axis.reach()) + " with padding " + std::to_string(axis.pad_before) + "+" +
                             std::to_string(axis.pad_after) + " over " + std::to_string(in.value) + " positions";
  if (in.value < 1 || count < 1) return NodeError(view, window + " leaves no output");
  if (count > kMaxDim) return NodeError(view, window + " gives more than 2^31 - 1 outputs");
  if (covered && !axis.EveryWindowCovers(in.value)) return NodeError(view, window + " has a window without any position that counts");
  *out = Dim::Fixed(count);
  return {};
}

}  // namespace pqi::ops
