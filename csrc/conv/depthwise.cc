// Depthwise convolutions: groups = channels = outputs, so a channel's sum has one product per tap and nothing is shared between channels.
//
// Two kernels run them. One takes any window, pixel by pixel, through a pointer per tap. The other takes square windows of 3 or 5 along
// whole image rows, for plain codes without residual: bands of rows, whose lines stay in L1.
#include "kernels/contract/depthwise.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "conv/method.h"
#include "conv/window_cursor.h"
#include "kernels/kernel_set.h"
#include "pack/arrange.h"

namespace pqi::conv {
namespace {

// A line has kLineBytes at most, but kLineColumns columns even where those take more. A band has kBandRows rows at least, where the part
// has as many, and more while its lines fit into kBandBytes of L1: they stay there while one block of channels after the other is computed.
constexpr int64_t kLineBytes = 1 << 15, kLineColumns = 16;
constexpr int64_t kBandBytes = 1 << 15, kBandRows = 16, kBandRowsAtMost = 32;

// Where the bands' arrays lie in the thread's scratch memory: offsets in bytes.
struct BandScratch {
  size_t padding = 0;  // u8[columns * c]: a line of padding
  size_t lines = 0;    // const uint8_t*[kh * kBandRowsAtMost]
  size_t bytes = 0;
  int64_t columns;  // what a line has at most

  explicit BandScratch(const kernels::ConvShape& s) : columns(std::max(kLineBytes / s.c, kLineColumns)) {
    padding = pack::Append(&bytes, static_cast<size_t>(columns * s.c));
    lines = pack::Append(&bytes, static_cast<size_t>(s.kh * kBandRowsAtMost) * sizeof(const uint8_t*));
  }
};

// A band for the kernel (kernels/contract/depthwise.h), and its first output pixel.
struct Band {
  const uint8_t* const* line;
  const uint8_t* padding;
  int64_t begin, end, row_lines, rows, m, pixel;
};

// Calls fn(band) for the output pixels of a part. A band is several whole rows of one image, or a piece of a row.
template <typename Fn>
void ForEachBand(const ConvRun<uint8_t>& run, const ConvPart& part, uint8_t padding_value, void* scratch, Fn&& fn) {
  const kernels::ConvShape& s = run.shape;
  const BandScratch offsets(s);
  uint8_t* memory = static_cast<uint8_t*>(scratch);
  uint8_t* padding = memory + offsets.padding;
  const uint8_t** lines = pack::At<const uint8_t*>(memory, offsets.lines);
  const int64_t out_w = s.out_w(), out_h = s.out_h();
  std::fill(padding, padding + std::min(std::max<int64_t>(s.w, 1), offsets.columns) * s.c, padding_value);
  Band band;
  band.line = lines;
  band.padding = padding;
  band.row_lines = s.dilation_h == 1 ? std::min(s.stride_h, s.kh) : s.kh;
  for (band.pixel = part.row_begin; band.pixel < part.row_end; band.pixel += band.rows * band.m) {
    const int64_t first = band.pixel % out_w, y = band.pixel / out_w % out_h, image = band.pixel / out_w / out_h;
    const int64_t left = part.row_end - band.pixel;
    band.m = std::min({out_w - first, left, (offsets.columns - s.kw) / s.stride_w + 1});
    const int64_t columns = (band.m - 1) * s.stride_w + s.kw, x0 = first * s.stride_w - s.pad_left;
    band.begin = std::min(std::max<int64_t>(-x0, 0), columns);
    band.end = std::max(std::min(s.w - x0, columns), band.begin);
    const int64_t fit = std::min(std::max((kBandBytes / (columns * s.c) - s.kh) / band.row_lines + 1, kBandRows), kBandRowsAtMost);
    band.rows = band.m == out_w ? std::min({fit, left / band.m, out_h - y}) : 1;
    for (int64_t line = 0; line < (band.rows - 1) * band.row_lines + s.kh; ++line) {
      const bool apart = band.row_lines == s.kh;  // rows share no line
      const int64_t row = apart ? line / s.kh : 0, tap = apart ? line % s.kh : line;
      const int64_t in_y = (y + row) * s.stride_h - s.pad_top + tap * s.dilation_h;
      const bool inside = in_y >= 0 && in_y < s.h && band.begin < band.end;
      lines[line] = inside ? run.x + ((image * s.h + in_y) * s.w + x0 + band.begin) * s.c : padding;
    }
    fn(band);
  }
}

// Where the arrays of the kernel that takes any window lie in the thread's scratch memory: offsets in bytes.
template <typename T>
struct PixelScratch {
  size_t padding = 0;   // T[c]: a pixel of padding
  size_t offsets = 0;   // ptrdiff_t[taps]
  size_t pointers = 0;  // const T*[taps]
  size_t bytes = 0;

  explicit PixelScratch(const kernels::ConvShape& s) {
    padding = pack::Append(&bytes, static_cast<size_t>(s.c) * sizeof(T));
    offsets = pack::Append(&bytes, static_cast<size_t>(s.taps()) * sizeof(ptrdiff_t));
    pointers = pack::Append(&bytes, static_cast<size_t>(s.taps()) * sizeof(const T*));
  }
};

// Calls pixel_fn(pointers of the taps, output pixel) for every pixel of a part.
template <typename T, typename PixelFn>
void ForEachPixel(const ConvRun<T>& run, const ConvPart& part, T padding_value, void* scratch, PixelFn&& pixel_fn) {
  const PixelScratch<T> offsets(run.shape);
  uint8_t* memory = static_cast<uint8_t*>(scratch);
  T* padding = pack::At<T>(memory, offsets.padding);
  std::fill(padding, padding + run.shape.c, padding_value);
  const T** pointers = pack::At<const T*>(memory, offsets.pointers);
  WindowCursor<T> cursor(run.shape, run.x, padding, pack::At<ptrdiff_t>(memory, offsets.offsets));
  cursor.Seek(part.row_begin);
  for (int64_t pixel = part.row_begin; pixel < part.row_end; ++pixel, cursor.Next()) {
    cursor.Pointers(0, pointers, 1);
    pixel_fn(pointers, pixel);
  }
}

bool Suits(const Request& request) { return request.depthwise(); }

void Layout(const Request& request, ConvLayout* layout) {
  const kernels::ConvShape& s = request.shape;
  layout->channels = static_cast<size_t>(pack::RoundUp(s.oc, kernels::kDepthwisePad));
  layout->panel_bytes = static_cast<size_t>(s.taps() * request.element_bytes()) * layout->channels;
  layout->depthwise_columns =
      request.codes != nullptr && !request.has_base() && s.kh == s.kw && (s.kh == 3 || s.kh == 5) && s.dilation_w == 1 && s.stride_w <= 2;
}

// Weights as the kernels read them, [taps][channels].
template <typename T>
void PackTaps(const ConvLayout& layout, const kernels::ConvShape& s, const T* weights, T* out) {
  for (int64_t c = 0; c < s.oc; ++c) {
    for (int64_t tap = 0; tap < s.taps(); ++tap) out[tap * static_cast<int64_t>(layout.channels) + c] = weights[c * s.taps() + tap];
  }
}

void PackU8(const kernels::KernelSet&, const ConvLayout& layout, const kernels::ConvShape& shape, const pack::WeightsU8& weights,
            Packed* packed) {
  PackTaps(layout, shape, weights.codes, reinterpret_cast<int8_t*>(packed->buffer.data() + layout.weights));
  PackStartValues(layout, shape, weights, packed);
}

void PackF32(const ConvLayout& layout, const kernels::ConvShape& shape, const pack::WeightsF32& weights, uint8_t* buffer) {
  PackTaps(layout, shape, weights.weights, reinterpret_cast<float*>(buffer + layout.weights));
}

size_t ScratchBytes(const ConvLayout& layout, const kernels::ConvShape& shape) {
  if (layout.element_bytes != 1) return PixelScratch<float>(shape).bytes;
  return std::max(PixelScratch<uint8_t>(shape).bytes, layout.depthwise_columns ? BandScratch(shape).bytes : 0);
}

// Parts are whole rows of pixels, as the kernel for rows likes them.
Work RowWork(const ConvLayout& layout, const kernels::ConvShape& shape) {
  Work work = PixelWork(layout, shape);
  work.grain = shape.out_w();
  return work;
}

void RunColumns(const LayerU8& layer, const ConvRun<uint8_t>& run, const ConvPart& part, void* scratch) {
  kernels::DepthwiseColumnsU8S8 d = {};
  d.taps = static_cast<uint32_t>(layer.layout.taps);
  d.n = static_cast<uint32_t>(run.shape.oc);
  d.stride = static_cast<uint32_t>(run.shape.stride_w);
  d.w = layer.weights();
  d.init = layer.init();
  d.scale = layer.scale();
  d.bias = layer.bias();
  d.output = layer.output;
  d.out_stride = run.y_stride;
  ForEachBand(run, part, static_cast<uint8_t>(layer.zero_point), scratch, [&](const Band& band) {
    d.line = band.line;
    d.padding = band.padding;
    d.begin = static_cast<uint32_t>(band.begin);
    d.end = static_cast<uint32_t>(band.end);
    d.row_lines = static_cast<uint32_t>(band.row_lines);
    d.rows = static_cast<uint32_t>(band.rows);
    d.m = static_cast<uint32_t>(band.m);
    d.out = static_cast<uint8_t*>(OutputAt(run.y, false, run.y_stride, band.pixel, 0));
    layer.set.u8s8_depthwise_columns(d);
  });
}

void RunU8(const LayerU8& layer, const ConvRun<uint8_t>& run, const ConvPart& part, void* scratch) noexcept {
  const bool plain = layer.step == 1 && run.residual.u8 == nullptr && run.residual.f32 == nullptr && !run.output.f32;
  if (layer.layout.depthwise_columns && plain) return RunColumns(layer, run, part, scratch);
  kernels::DepthwiseU8S8 d = {};
  d.taps = static_cast<uint32_t>(layer.layout.taps);
  d.n = static_cast<uint32_t>(run.shape.oc);
  d.w = layer.weights();
  d.init = layer.init();
  d.scale = layer.scale();
  d.bias = layer.bias();
  d.base = layer.base();
  d.step = layer.step;
  d.zero_point = layer.zero_point;
  d.output = run.output;
  ForEachPixel(run, part, static_cast<uint8_t>(layer.zero_point), scratch, [&](const uint8_t* const* a, int64_t pixel) {
    d.a = a;
    d.residual = ResidualAt(run.residual, run.shape, pixel, 0);
    d.out = OutputAt(run.y, run.output.f32, run.y_stride, pixel, 0);
    layer.set.u8s8_depthwise(d);
  });
}

void RunF32(const LayerF32& layer, const ConvRun<float>& run, const ConvPart& part, void* scratch) noexcept {
  kernels::DepthwiseF32 d = {};
  d.taps = static_cast<uint32_t>(layer.layout.taps);
  d.n = static_cast<uint32_t>(run.shape.oc);
  d.w = layer.weights();
  d.bias = layer.bias();
  d.act_lo = run.output.act_lo;
  d.act_hi = run.output.act_hi;
  ForEachPixel(run, part, 0.0f, scratch, [&](const float* const* a, int64_t pixel) {
    d.a = a;
    d.residual = ResidualAt(run.residual, run.shape, pixel, 0);
    d.out = static_cast<float*>(OutputAt(run.y, true, run.y_stride, pixel, 0));
    layer.set.f32_depthwise(d);
  });
}

Words Describe(const ConvLayout&, int) { return {"-depthwise", "one input and one output channel per group"}; }

}  // namespace

extern const ConvMethod kDepthwiseMethod = {"depthwise", Suits, Layout, PackU8,   PackF32, ScratchBytes,
                                            RowWork,     RunU8, RunF32, Describe, nullptr};

}  // namespace pqi::conv
