#include "pack/conv.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/reference/conv.h"
#include "pack/ahead.h"
#include "pack/arrange.h"
#include "pack/band.h"
#include "pack/lines.h"
#include "pack/low_bit.h"
#include "pack/matrix.h"
#include "pack/tiling.h"
#include "pack/winograd.h"
#include "pack/winograd_filter.h"

namespace pqi::pack {
namespace {

using kernels::ConvShape;
using kernels::KernelSet;
using kernels::Residual;

template <typename T>
const T* AtIf(bool present, const uint8_t* memory, size_t offset) {
  return present ? At<T>(memory, offset) : nullptr;
}

// Output rows whose products take longer than it costs to ask for weights.
constexpr int64_t kRowsThatWait = 256;

// sum(q_a - z_a) over `taps` pieces of k codes of each of m rows; a and tap_step as in kernels/contract/tile.h.
void BoxSums(const uint8_t* const* a, int64_t tap_step, int64_t taps, int64_t k, int64_t m, int32_t zero_point, int32_t* box) {
  for (int64_t i = 0; i < m; ++i) {
    int32_t sum = 0;
    for (int64_t tap = 0; tap < taps; ++tap) {
      const uint8_t* q = tap_step == 0 ? a[tap * m + i] : a[i] + tap * tap_step;
      for (int64_t j = 0; j < k; ++j) sum += q[j];
    }
    box[i] = sum - static_cast<int32_t>(taps * k) * zero_point;
  }
}

// The largest |y| before a residual that any input can give, in exact arithmetic; infinity where a parameter is not finite.
double LargestResult(const ConvShape& s, const WeightsU8& w) {
  const int64_t per_channel = s.taps() * s.group_inputs();
  const double reach = std::max(w.zero_point, 255 - w.zero_point);  // of |q_a - z_a|
  double largest = 0;
  for (int64_t c = 0; c < s.oc; ++c) {
    int64_t sum = 0;
    for (int64_t i = 0; i < per_channel; ++i) sum += std::abs(w.codes[c * per_channel + i]);
    double sums = static_cast<double>(w.step) * static_cast<double>(sum);
    if (w.base != nullptr) sums += std::abs(static_cast<double>(w.base[c])) * static_cast<double>(per_channel);
    double y = sums * reach * std::abs(static_cast<double>(w.scale[c]));
    if (w.bias != nullptr) y += std::abs(static_cast<double>(w.bias[c]));
    if (!std::isfinite(y)) return std::numeric_limits<double>::infinity();
    largest = std::max(largest, y);
  }
  return largest;
}

// Sets Output::saturates and code_max (kernels/contract/output.h) where that is proved. Rounding keeps order, so a bound clamps like the
// code that it rounds to; float32 arithmetic can pass the exact bound by a few parts in 2^24 only, and 2^30 leaves half the room of int32.
void ProveSaturation(const Residual& r, double largest, kernels::Output* output) {
  kernels::Output& o = *output;
  if (o.f32 || r.f32 != nullptr) return;
  if (r.u8 != nullptr) largest += 255.0 * static_cast<double>(r.scale);
  if (!(largest * static_cast<double>(o.inv_scale) < 1 << 30)) return;
  const float lo = std::max(o.act_lo * o.inv_scale, o.v_lo), hi = std::min(o.act_hi * o.inv_scale, o.v_hi);
  const float top = std::nearbyint(hi) + static_cast<float>(o.zero_point);
  o.saturates = std::nearbyint(lo) == static_cast<float>(-o.zero_point) && top >= 0 && top <= 255;
  if (o.saturates) o.code_max = static_cast<uint8_t>(top);
}

}  // namespace

Residual ResidualAt(const Residual& r, const ConvShape& s, int64_t row, int64_t channel) {
  Residual at = r;
  const int64_t offset = row * s.oc + channel;
  if (r.u8 != nullptr) at.u8 = r.u8 + offset;
  if (r.f32 != nullptr) at.f32 = r.f32 + offset;
  at.stride = static_cast<size_t>(s.oc);
  return at;
}

void* OutputAt(void* y, bool f32, size_t y_stride, int64_t row, int64_t channel) {
  return static_cast<uint8_t*>(y) + (static_cast<size_t>(row) * y_stride + static_cast<size_t>(channel)) * (f32 ? 4 : 1);
}

Work OutputWork(const ConvLayout& layout, const ConvShape& s) {
  Work work;
  work.rows = OutputUnits(layout, s);
  work.panels = layout.panels;
  work.panel_bytes = static_cast<int64_t>(layout.panel_bytes);
  work.macs = std::max<int64_t>(s.taps() * s.group_inputs() * s.oc / layout.panels * s.rows() / std::max<int64_t>(work.rows, 1), 1);
  work.row_bytes = std::min(s.n * s.h * s.w, s.rows() * s.taps()) * s.c / std::max<int64_t>(work.rows, 1);
  switch (layout.method) {
    case Method::kDepthwise:  // whole rows of pixels, as its kernel likes them
      work.grain = s.out_w();
      break;
    case Method::kMatrix:  // whole rows everywhere, so that a thread finds what it wrote in its own caches
      work.grain = work.rows == s.rows() ? s.out_w() : 1;
      work.macs_per_byte = kMatrixMacsPerByte;
      break;
    case Method::kWinograd: {
      const WinogradFilter& filter = FilterOf(layout.algorithm.winograd);
      work.row_bytes = filter.positions * s.c;                       // every thread transforms its tiles' input
      if (filter.taps > 1) work.grain = TileGrid(filter, s).across;  // and image rows as a whole
      break;
    }
    default:
      break;
  }
  return work;
}

PackedConvU8::PackedConvU8(const KernelSet& set, const ConvShape& shape, const WeightsU8& weights, const Algorithm& algorithm)
    : set_(&set),
      layout_(LayoutConvU8(set, shape, weights.bias != nullptr, weights.base != nullptr, algorithm)),
      scratch_bytes_(layout_.method == Method::kWinograd
                         ? 0
                         : std::max(Scratch<uint8_t>(layout_, shape).bytes, layout_.depthwise_columns ? BandScratch(shape).bytes : 0)),
      step_(weights.step),
      zero_point_(weights.zero_point),
      qmin_(weights.qmin),
      qmax_(weights.qmax),
      largest_result_(LargestResult(shape, weights)),
      buffer_(PackConvU8(layout_, shape, weights, &least_)) {
  if (algorithm.winograd != Winograd::kNone || algorithm.product != Product::kDot) return;
  pairs_ = SplitPairs(set, layout_, buffer_.data());
  if (pairs_.used()) layout_.tile.mr = set.u8s8_pairs_mr;
}

size_t PackedConvU8::ScratchBytes(const ConvShape& shape) const {
  if (layout_.method == Method::kLines) return LineBands<uint8_t>(layout_, shape).bytes;
  if (layout_.method == Method::kMatrix) return MatrixScratchBytes(layout_, shape);
  return layout_.method == Method::kWinograd ? WinogradScratchBytes(layout_, shape) : scratch_bytes_;
}

void PackedConvU8::Run(const ConvRun<uint8_t>& run, const ConvPart& part, void* scratch) const noexcept {
  const ConvShape& s = run.shape;
  const int8_t* weights = At<int8_t>(buffer_.data(), layout_.weights);
  const int32_t* init = At<int32_t>(buffer_.data(), layout_.init);
  const float* scale = At<float>(buffer_.data(), layout_.scale);
  const float* bias = AtIf<float>(layout_.has_bias, buffer_.data(), layout_.bias);
  const int32_t* base = AtIf<int32_t>(layout_.has_base, buffer_.data(), layout_.base);
  const uint8_t padding = static_cast<uint8_t>(zero_point_);
  kernels::Output output = run.output;
  ProveSaturation(run.residual, largest_result_, &output);
  if (part.panel_begin >= part.panel_end) return;
  switch (layout_.method) {
    case Method::kReference:
      kernels::reference::Conv2dU8(
          {s, run.x, zero_point_, weights, step_, base, scale, bias, ResidualAt(run.residual, s, 0, 0), run.output, run.y, run.y_stride},
          part.row_begin, part.row_end);
      break;
    case Method::kDepthwise: {
      const bool plain = step_ == 1 && run.residual.u8 == nullptr && run.residual.f32 == nullptr && !run.output.f32;
      if (layout_.depthwise_columns && plain) {
        kernels::DepthwiseColumnsU8S8 d = {};
        d.taps = static_cast<uint32_t>(layout_.taps);
        d.n = static_cast<uint32_t>(s.oc);
        d.stride = static_cast<uint32_t>(s.stride_w);
        d.w = weights;
        d.init = init;
        d.scale = scale;
        d.bias = bias;
        d.output = output;
        d.out_stride = run.y_stride;
        ForEachBand(run, part, padding, scratch, [&](const Band& band) {
          d.line = band.line;
          d.padding = band.padding;
          d.begin = static_cast<uint32_t>(band.begin);
          d.end = static_cast<uint32_t>(band.end);
          d.row_lines = static_cast<uint32_t>(band.row_lines);
          d.rows = static_cast<uint32_t>(band.rows);
          d.m = static_cast<uint32_t>(band.m);
          d.out = static_cast<uint8_t*>(OutputAt(run.y, false, run.y_stride, band.pixel, 0));
          set_->u8s8_depthwise_columns(d);
        });
        break;
      }
      kernels::DepthwiseU8S8 d = {};
      d.taps = static_cast<uint32_t>(layout_.taps);
      d.n = static_cast<uint32_t>(s.oc);
      d.w = weights;
      d.init = init;
      d.scale = scale;
      d.bias = bias;
      d.base = base;
      d.step = step_;
      d.zero_point = zero_point_;
      d.output = run.output;
      ForEachPixel(layout_, run, part, padding, scratch, [&](const uint8_t* const* a, int64_t row) {
        d.a = a;
        d.residual = ResidualAt(run.residual, s, row, 0);
        d.out = OutputAt(run.y, run.output.f32, run.y_stride, row, 0);
        set_->u8s8_depthwise(d);
      });
      break;
    }
    case Method::kTiles:
    case Method::kRuns:
    case Method::kLines:
    case Method::kGather: {
      const kernels::TileScope scope(*set_);
      kernels::TileU8S8Pairs pairs = {};
      kernels::TileU8S8& t = pairs.tile;  // what all tiles share is set once
      t.taps = static_cast<uint32_t>(layout_.taps);
      t.k = static_cast<uint32_t>(layout_.k);
      t.step = step_;
      t.output = output;
      t.out_stride = run.y_stride;
      t.depth = layout_.algorithm.depth;
      const bool dot = layout_.algorithm.product == Product::kDot;
      const kernels::TileU8S8Fn* tiles = dot ? set_->u8s8_tile : ProductKernels(*set_, layout_.algorithm.product).tile;
      const auto row_values = [&](const uint8_t* const* a, int64_t m, int32_t* box, int32_t* terms) {
        if (layout_.has_base) BoxSums(a, 0, layout_.taps, layout_.k, m, zero_point_, box);
        if (layout_.algorithm.product == Product::kInnerProduct)
          set_->row_terms({a, 0, t.taps, t.k, static_cast<uint32_t>(m), least_[0], terms});
      };
      const auto box_of_lines = [&](const uint8_t* const* a, int64_t tap_step, int64_t m, int32_t* box) {
        BoxSums(a, tap_step, s.kh, s.kw * s.group_inputs(), m, zero_point_, box);
      };
      // Of a few rows the weights come slower than they are used.
      const NextPanel next(layout_.tile, layout_.panel_bytes);
      const int64_t rows = part.row_end - part.row_begin, calls = rows < kRowsThatWait ? CeilDiv(rows, layout_.tile.mr) : 0;
      const auto run_tile = [&](const Tile<uint8_t>& tile) {
        const int64_t channel = tile.panel * layout_.tile.nr;
        t.a = tile.a;
        t.tap_step = static_cast<size_t>(tile.tap_step);
        t.n = static_cast<uint32_t>(tile.n);
        t.w = weights + static_cast<size_t>(tile.panel) * layout_.panel_bytes;
        t.ahead = tile.panel + 1 < part.panel_end ? next.Ahead(t.w, tile.index, calls) : nullptr;
        t.init = init + channel;
        t.scale = scale + channel;
        t.bias = bias != nullptr ? bias + channel : nullptr;
        t.base = base != nullptr ? base + channel : nullptr;
        t.box = tile.box;
        t.row = tile.terms;
        t.residual = ResidualAt(run.residual, s, tile.row, tile.channel);
        t.out = OutputAt(run.y, run.output.f32, run.y_stride, tile.row, tile.channel);
        if (!pairs_.used()) return tiles[tile.m - 1](t);
        const size_t* first = pairs_.first.data() + 2 * tile.panel;
        pairs.extra = pairs_.at.data() + first[0];
        pairs.extra_w = reinterpret_cast<const int8_t*>(pairs_.weights.data()) + first[0] * static_cast<size_t>(layout_.tile.nr) * 2;
        pairs.extras[0] = static_cast<uint32_t>(first[1] - first[0]);
        pairs.extras[1] = static_cast<uint32_t>(first[2] - first[1]);
        set_->u8s8_pairs_tile[tile.m - 1](pairs);
      };
      if (layout_.method == Method::kLines) {
        ForEachLineTile(layout_, run, part, padding, scratch, box_of_lines, run_tile);
      } else {
        ForEachTile(layout_, run, part, padding, scratch, row_values, run_tile);
      }
      break;
    }
    case Method::kMatrix:
      RunMatrix({*set_, layout_, buffer_.data(), step_, zero_point_, output}, run, part, scratch);
      break;
    case Method::kWinograd:
      RunWinograd({*set_, layout_, buffer_.data(), least_, step_, zero_point_, qmin_, qmax_, output}, run, part, scratch);
      break;
  }
}

PackedConvF32::PackedConvF32(const KernelSet& set, const ConvShape& shape, const WeightsF32& weights)
    : set_(&set),
      layout_(LayoutConvF32(set, shape, weights.bias != nullptr)),
      scratch_bytes_(Scratch<float>(layout_, shape).bytes),
      buffer_(PackConvF32(layout_, shape, weights)) {}

size_t PackedConvF32::ScratchBytes(const ConvShape& shape) const {
  return layout_.method == Method::kLines ? LineBands<float>(layout_, shape).bytes : scratch_bytes_;
}

void PackedConvF32::Run(const ConvRun<float>& run, const ConvPart& part, void* scratch) const noexcept {
  const ConvShape& s = run.shape;
  const float* weights = At<float>(buffer_.data(), layout_.weights);
  const float* bias = AtIf<float>(layout_.has_bias, buffer_.data(), layout_.bias);
  const float act_lo = run.output.act_lo, act_hi = run.output.act_hi;
  if (part.panel_begin >= part.panel_end) return;
  switch (layout_.method) {
    case Method::kReference:
      kernels::reference::Conv2dF32(
          {s, run.x, weights, bias, ResidualAt(run.residual, s, 0, 0), act_lo, act_hi, static_cast<float*>(run.y), run.y_stride},
          part.row_begin, part.row_end);
      break;
    case Method::kDepthwise: {
      kernels::DepthwiseF32 d = {};
      d.taps = static_cast<uint32_t>(layout_.taps);
      d.n = static_cast<uint32_t>(s.oc);
      d.w = weights;
      d.bias = bias;
      d.act_lo = act_lo;
      d.act_hi = act_hi;
      ForEachPixel(layout_, run, part, 0.0f, scratch, [&](const float* const* a, int64_t row) {
        d.a = a;
        d.residual = ResidualAt(run.residual, s, row, 0);
        d.out = static_cast<float*>(OutputAt(run.y, true, run.y_stride, row, 0));
        set_->f32_depthwise(d);
      });
      break;
    }
    case Method::kTiles:
    case Method::kRuns:
    case Method::kLines:
    case Method::kGather: {
      kernels::TileF32 t = {};
      t.taps = static_cast<uint32_t>(layout_.taps);
      t.k = static_cast<uint32_t>(layout_.k);
      t.act_lo = act_lo;
      t.act_hi = act_hi;
      t.out_stride = run.y_stride;
      const auto no_values = [](const float* const*, int64_t, int32_t*, int32_t*) {};
      const auto no_boxes = [](const float* const*, int64_t, int64_t, int32_t*) {};
      const auto run_tile = [&](const Tile<float>& tile) {
        t.a = tile.a;
        t.tap_step = static_cast<size_t>(tile.tap_step);
        t.n = static_cast<uint32_t>(tile.n);
        t.w = weights + static_cast<size_t>(tile.panel) * layout_.panel_bytes / sizeof(float);
        t.bias = bias != nullptr ? bias + tile.panel * layout_.tile.nr : nullptr;
        t.residual = ResidualAt(run.residual, s, tile.row, tile.channel);
        t.out = static_cast<float*>(OutputAt(run.y, true, run.y_stride, tile.row, tile.channel));
        set_->f32_tile[tile.m - 1](t);
      };
      if (layout_.method == Method::kLines) {
        ForEachLineTile(layout_, run, part, 0.0f, scratch, no_boxes, run_tile);
      } else {
        ForEachTile(layout_, run, part, 0.0f, scratch, no_values, run_tile);
      }
      break;
    }
    case Method::kMatrix:
    case Method::kWinograd:  // codes only
      break;
  }
}

}  // namespace pqi::pack
