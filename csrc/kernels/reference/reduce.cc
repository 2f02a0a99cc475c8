#include "kernels/reference/reduce.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/reference/quantize.h"

namespace pqi::kernels::reference {
namespace {

int64_t Product(const int64_t* sizes, int n) {
  int64_t product = 1;
  for (int i = 0; i < n; ++i) product *= sizes[i];
  return product;
}

// The index of the first element of an output.
int64_t FirstElement(const Reduction& r, int64_t output) {
  int64_t at = 0;
  for (int i = r.kept; i-- > 0;) {
    at += output % r.kept_size[i] * r.kept_stride[i];
    output /= r.kept_size[i];
  }
  return at;
}

// Calls fn(index) for the elements of one output, row-major over the reduced axes, of which there is at least one.
template <typename Fn>
void ForEachElement(const Reduction& r, int64_t output, Fn&& fn) {
  const int last = r.reduced - 1;
  const int64_t inner = r.reduced_size[last], step = r.reduced_stride[last], runs = r.elements() / inner, first = FirstElement(r, output);
  for (int64_t run = 0; run < runs; ++run) {
    int64_t at = first, left = run;
    for (int i = last; i-- > 0;) {
      at += left % r.reduced_size[i] * r.reduced_stride[i];
      left /= r.reduced_size[i];
    }
    for (int64_t i = 0; i < inner; ++i) fn(at + i * step);
  }
}

}  // namespace

int64_t Reduction::outputs() const { return Product(kept_size, kept); }
int64_t Reduction::elements() const { return Product(reduced_size, reduced); }

void ReduceU8(const Reduction& r, const uint8_t* x, const Affine& in, const Output& o, void* y, int64_t begin, int64_t end) noexcept {
  const double n = static_cast<double>(r.elements());
  const float factor = r.function == ReduceFunction::kMean ? static_cast<float>(static_cast<double>(in.scale) / n) : in.scale;
  for (int64_t output = begin; output < end; ++output) {
    int32_t value = 0;
    if (r.function == ReduceFunction::kAmax) {
      ForEachElement(r, output, [&](int64_t at) { value = std::max<int32_t>(value, x[at]); });
      value -= in.zero_point;
    } else {
      ForEachElement(r, output, [&](int64_t at) { value += x[at] - in.zero_point; });
    }
    Store(static_cast<float>(value) * factor, o, y, static_cast<size_t>(output));
  }
}

void ReduceF32(const Reduction& r, const float* x, const Output& o, void* y, int64_t begin, int64_t end) noexcept {
  for (int64_t output = begin; output < end; ++output) {
    float value = -std::numeric_limits<float>::infinity();
    if (r.function == ReduceFunction::kAmax) {
      ForEachElement(r, output, [&](int64_t at) { value = (x[at] > value || std::isnan(x[at])) ? x[at] : value; });
    } else {
      float lane[16] = {};
      size_t i = 0;
      ForEachElement(r, output, [&](int64_t at) { lane[i++ % 16] += x[at]; });
      for (int half = 8; half >= 1; half /= 2) {
        for (int j = 0; j < half; ++j) lane[j] += lane[j + half];
      }
      value = r.function == ReduceFunction::kMean ? lane[0] / static_cast<float>(r.elements()) : lane[0];
    }
    Store(value, o, y, static_cast<size_t>(output));
  }
}

}  // namespace pqi::kernels::reference
