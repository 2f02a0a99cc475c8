#include "pack/layout.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "pack/arrange.h"
#include "pack/low_bit.h"
#include "pack/matrix.h"
#include "pack/panel.h"
#include "pack/winograd_filter.h"

namespace pqi::pack {
namespace {

using kernels::ConvShape;
using kernels::KernelSet;
using kernels::TileShape;

// Below this many channels a tap is too short for a tile kernel's loop, and lines or windows are copied.
constexpr int64_t kGatherBelow = 16;
// Longer runs gain nothing over single taps, and would make copies of border windows costly.
constexpr int64_t kRunBytes = 512;
// Pointers and gathered windows of a block stay in L1 and L2 beside the panel.
constexpr int64_t kBlockRows = 240, kBlockPointers = 4096, kBlockGatherBytes = 1 << 16;

Method WindowMethod(const ConvShape& s, const Algorithm& algorithm, int64_t kr, int64_t element_bytes) {
  const bool few = s.taps() > 1 && s.group_inputs() < kGatherBelow;
  if (few && s.dilation_w == 1 && algorithm.product == Product::kDot) return Method::kLines;
  const bool neighbours = s.groups == 1 && s.dilation_w == 1 && s.kw > 1;
  // With few channels a run wastes less than copying windows costs.
  const bool dense = s.c % kr == 0 || (s.c < kGatherBelow && s.kw * s.c >= kr);
  if (neighbours && dense && s.kw * s.c * element_bytes <= kRunBytes) return Method::kRuns;
  return few ? Method::kGather : Method::kTiles;
}

ConvLayout LayoutWeights(const ConvShape& s, const TileShape& tile, bool depthwise_kernel, int64_t element_bytes,
                         const Algorithm& algorithm = {}, bool matrix = false) {
  ConvLayout layout;
  layout.algorithm = algorithm;
  layout.tile = tile;
  layout.taps = s.taps();
  layout.k = s.group_inputs();
  if (tile.mr == 0) {
    layout.method = Method::kReference;
    layout.channels = static_cast<size_t>(s.oc);
    layout.panel_bytes = static_cast<size_t>(s.oc * s.taps() * s.group_inputs() * element_bytes);
  } else if (matrix) {
    LayoutMatrix(s, &layout);
  } else if (s.depthwise() && depthwise_kernel) {
    layout.method = Method::kDepthwise;
    layout.channels = static_cast<size_t>(RoundUp(s.oc, kernels::kDepthwisePad));
    layout.panel_bytes = static_cast<size_t>(s.taps() * element_bytes) * layout.channels;
  } else {
    const bool winograd = algorithm.winograd != Winograd::kNone;
    layout.method = winograd ? Method::kWinograd : WindowMethod(s, algorithm, tile.kr, element_bytes);
    if (winograd) {
      const WinogradFilter& filter = FilterOf(algorithm.winograd);
      layout.k = RoundUp(s.c, tile.kr);
      layout.taps = filter.positions * filter.taps;
    } else if (layout.method == Method::kRuns) {
      layout.k *= s.kw;
      layout.taps = s.kh;
    } else if (layout.method == Method::kLines) {
      layout.k = RoundUp(layout.k * s.kw, tile.kr);
      layout.taps = s.kh;
    } else if (layout.method == Method::kGather) {
      layout.k *= layout.taps;
      layout.taps = 1;
    }
    layout.panels_per_group = CeilDiv(s.group_outputs(), tile.nr);
    layout.panels = layout.panels_per_group * s.groups;
    layout.panel_bytes = static_cast<size_t>(layout.taps * RoundUp(layout.k, tile.kr) * tile.nr * element_bytes);
    layout.channels = static_cast<size_t>(layout.panels * tile.nr);
    int64_t rows = std::min(kBlockRows, kBlockPointers / layout.taps);
    if (layout.method == Method::kGather) rows = std::min(rows, kBlockGatherBytes / (layout.k * element_bytes));
    layout.block_rows = winograd ? FilterOf(algorithm.winograd).max_tiles : std::max<int64_t>(rows, tile.mr);
  }
  layout.weights = Append(&layout.bytes, layout.panel_bytes * static_cast<size_t>(layout.panels));
  return layout;
}

// Fills a parameter array of `layout.channels` elements from one of shape.oc: panels of a group start at a multiple of nr.
template <typename T>
void PackChannels(const ConvLayout& layout, const ConvShape& s, const T* source, void* target) {
  T* out = static_cast<T*>(target);
  const int64_t per_group = layout.panels > 1 ? s.group_outputs() : s.oc;
  const int64_t groups = layout.panels > 1 ? s.groups : 1;
  const int64_t padded = static_cast<int64_t>(layout.channels) / groups;
  for (int64_t g = 0; g < groups; ++g) std::memcpy(out + g * padded, source + g * per_group, static_cast<size_t>(per_group) * sizeof(T));
}

template <typename T>
void PackWeights(const ConvLayout& layout, const ConvShape& s, const T* weights, uint8_t* buffer) {
  T* out = reinterpret_cast<T*>(buffer + layout.weights);
  const bool filled_up = layout.method == Method::kWinograd || layout.method == Method::kLines;
  const int64_t per_channel = filled_up ? layout.taps * layout.k : s.taps() * s.group_inputs();
  switch (layout.method) {
    case Method::kReference:
      std::memcpy(out, weights, static_cast<size_t>(s.oc * per_channel) * sizeof(T));
      break;
    case Method::kDepthwise:
      for (int64_t c = 0; c < s.oc; ++c) {
        for (int64_t tap = 0; tap < s.taps(); ++tap) out[tap * static_cast<int64_t>(layout.channels) + c] = weights[c * s.taps() + tap];
      }
      break;
    case Method::kTiles:
    case Method::kRuns:
    case Method::kLines:
    case Method::kGather:
    case Method::kMatrix:
    case Method::kWinograd:
      for (int64_t p = 0; p < layout.panels; ++p) {
        const int64_t group = p / layout.panels_per_group, first = p % layout.panels_per_group * layout.tile.nr;
        const int64_t n = std::min<int64_t>(layout.tile.nr, s.group_outputs() - first);
        T* panel = reinterpret_cast<T*>(buffer + layout.weights + static_cast<size_t>(p) * layout.panel_bytes);
        const T* channels = weights + (group * s.group_outputs() + first) * per_channel;
        if constexpr (std::is_same_v<T, int8_t>) {
          if (layout.method == Method::kMatrix) {
            PackMatrixPanel(layout, channels, n, panel);
            continue;
          }
        }
        PackPanel(layout.tile, layout.taps, layout.k, channels, n, panel);
      }
      break;
  }
}

// Codes of runs of kw pixels, each run filled up to k with zeros: [oc][kh][k].
AlignedBuffer<int8_t> FillUpRuns(const ConvLayout& layout, const ConvShape& s, const int8_t* weights) {
  const int64_t runs = s.oc * s.kh, run = s.kw * s.group_inputs();
  AlignedBuffer<int8_t> out(static_cast<size_t>(runs * layout.k));
  for (int64_t i = 0; i < runs; ++i) std::copy(weights + i * run, weights + (i + 1) * run, out.data() + i * layout.k);
  return out;
}

// (offset - z_a) * sum(code) of each channel. Only the finished accumulator is known to fit int32, so this wraps.
AlignedBuffer<int32_t> StartValues(const ConvShape& s, const WeightsU8& w, int32_t offset) {
  AlignedBuffer<int32_t> init(static_cast<size_t>(s.oc));
  const int64_t per_channel = s.taps() * s.group_inputs();
  for (int64_t c = 0; c < s.oc; ++c) {
    uint32_t sum = 0;
    for (int64_t i = 0; i < per_channel; ++i) sum += static_cast<uint32_t>(w.codes[c * per_channel + i]);
    init[static_cast<size_t>(c)] = static_cast<int32_t>(static_cast<uint32_t>(offset - w.zero_point) * sum);
  }
  return init;
}

}  // namespace

const char* MethodName(Method method) {
  switch (method) {
    case Method::kReference:
      return "reference";
    case Method::kTiles:
      return "tiles";
    case Method::kRuns:
      return "runs";
    case Method::kLines:
      return "lines";
    case Method::kGather:
      return "gather";
    case Method::kDepthwise:
      return "depthwise";
    case Method::kMatrix:
      return "matrix";
    case Method::kWinograd:
      return "winograd";
  }
  return "";
}

const kernels::U8S8Kernels& ProductKernels(const KernelSet& set, Product product) {
  switch (product) {
    case Product::kInnerProduct:
      return set.u8s8_inner_product;
    case Product::kDeferred:
      return set.u8s8_deferred;
    case Product::kDot:
      break;
  }
  return set.u8s8_dot;
}

int64_t OutputUnits(const ConvLayout& layout, const ConvShape& shape) {
  if (layout.method == Method::kMatrix) return MatrixUnits(shape);
  if (layout.method != Method::kWinograd) return shape.rows();
  const TileGrid grid(FilterOf(layout.algorithm.winograd), shape);
  return shape.n * grid.down * grid.across;
}

ConvLayout LayoutConvU8(const KernelSet& set, const ConvShape& shape, bool has_bias, bool has_base, const Algorithm& algorithm) {
  const bool direct_dot = algorithm.product == Product::kDot && algorithm.winograd == Winograd::kNone;
  const TileShape tile = direct_dot ? set.u8s8 : ProductKernels(set, algorithm.product).shape;
  const bool matrix = direct_dot && SuitsMatrix(set, shape, has_base);
  ConvLayout layout = LayoutWeights(shape, tile, set.u8s8_depthwise != nullptr, 1, algorithm, matrix);
  layout.has_bias = has_bias;
  layout.has_base = has_base;
  if (layout.method != Method::kDepthwise && direct_dot) layout.offset = set.u8s8_offset;
  if (layout.method == Method::kDepthwise && !has_base && shape.kh == shape.kw && (shape.kh == 3 || shape.kh == 5) &&
      shape.dilation_w == 1 && shape.stride_w <= 2) {
    layout.depthwise_columns = true;
  }
  const size_t bytes = layout.channels * 4;
  layout.scale = Append(&layout.bytes, bytes);
  const bool winograd = layout.method == Method::kWinograd;
  layout.init = Append(&layout.bytes, winograd ? bytes * static_cast<size_t>(FilterOf(algorithm.winograd).positions) : bytes);
  if (has_bias) layout.bias = Append(&layout.bytes, bytes);
  if (has_base) layout.base = Append(&layout.bytes, bytes);
  return layout;
}

ConvLayout LayoutConvF32(const KernelSet& set, const ConvShape& shape, bool has_bias) {
  ConvLayout layout = LayoutWeights(shape, set.f32, set.f32_depthwise != nullptr, 4);
  layout.has_bias = has_bias;
  if (has_bias) layout.bias = Append(&layout.bytes, layout.channels * 4);
  return layout;
}

AlignedBuffer<uint8_t> PackConvU8(const ConvLayout& layout, const ConvShape& shape, const WeightsU8& weights, LeastCodes* least) {
  AlignedBuffer<uint8_t> buffer(layout.bytes);
  uint8_t* at = buffer.data();
  AlignedBuffer<int32_t> init = StartValues(shape, weights, layout.offset);
  if (layout.method == Method::kWinograd) {
    const AlignedBuffer<int8_t> transformed = TransformCodes(layout, shape, weights, init.data(), least, at + layout.init);
    PackWeights(layout, shape, transformed.data(), at);
  } else if (layout.algorithm.product == Product::kInnerProduct) {
    const int64_t per_channel = shape.taps() * shape.group_inputs();
    AlignedBuffer<int8_t> codes(static_cast<size_t>(shape.oc * per_channel));
    std::copy(weights.codes, weights.codes + codes.size(), codes.data());
    const int least_code = std::min<int>(*std::min_element(codes.begin(), codes.end()), 0);
    (*least)[0] = static_cast<int8_t>(least_code);
    for (int64_t c = 0; c < shape.oc; ++c) {
      const uint32_t products = ShiftCodes(codes.data() + c * per_channel, per_channel, least_code);
      init[static_cast<size_t>(c)] = static_cast<int32_t>(static_cast<uint32_t>(init[static_cast<size_t>(c)]) - products);
    }
    PackWeights(layout, shape, codes.data(), at);
    PackChannels(layout, shape, init.data(), at + layout.init);
  } else {
    const bool lines = layout.method == Method::kLines;
    PackWeights(layout, shape, lines ? FillUpRuns(layout, shape, weights.codes).data() : weights.codes, at);
    PackChannels(layout, shape, init.data(), at + layout.init);
  }
  PackChannels(layout, shape, weights.scale, at + layout.scale);
  if (layout.has_bias) PackChannels(layout, shape, weights.bias, at + layout.bias);
  if (layout.has_base) PackChannels(layout, shape, weights.base, at + layout.base);
  return buffer;
}

AlignedBuffer<uint8_t> PackConvF32(const ConvLayout& layout, const ConvShape& shape, const WeightsF32& weights) {
  AlignedBuffer<uint8_t> buffer(layout.bytes);
  PackWeights(layout, shape, weights.weights, buffer.data());
  if (layout.has_bias) PackChannels(layout, shape, weights.bias, buffer.data() + layout.bias);
  return buffer;
}

}  // namespace pqi::pack
