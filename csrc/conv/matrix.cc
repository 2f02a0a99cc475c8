// Convolutions and linear layers on matrix registers (kernels/contract/matrix.h): a convolution is a matrix product over padded
// rows.
//
// A register holds 16 rows that are evenly spaced in memory. Bands of the input are copied into a padded image whose rows run on, so that
// output positions are a constant stride apart, across the ends of image rows too; the few positions that fall between two rows are
// computed and thrown away. 1x1 layers are read in place. Groups of few channels and weights with a base go to the tiles.
#include "kernels/contract/matrix.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "conv/method.h"
#include "kernels/contract/tile.h"
#include "kernels/kernel_set.h"
#include "pack/arrange.h"
#include "pack/matrix_panel.h"

namespace pqi::conv {
namespace {

using kernels::ConvShape;
using kernels::kMatrixBytes;
using kernels::kMatrixChannels;
using kernels::kMatrixRows;
using pack::At;
using pack::CeilDiv;
using pack::PieceAt;
using pack::PieceBegin;
using pack::PieceBytes;
using pack::Pieces;
using pack::RoundUp;

// Work::macs_per_byte: measured 1,500 GMAC/s against 29 GB/s.
constexpr int64_t kMacsPerByte = 50;
// A band's padded input stays in L2 beside a panel.
constexpr int64_t kBandBytes = 512 << 10;
// Positions of one call. All panels run over them in turn, so few of them keep rows and outputs in L1, while the weights come from L2 once
// per call; weights that L2 does not hold are worth as many positions as the kernel can count.
constexpr int64_t kCallPositions = 192, kMostPositions = 1 << 20, kWeightsInL2 = 1 << 20;

// Do the taps of a window row form one run?
bool Runs(const ConvShape& s) { return s.dilation_w == 1 && s.groups == 1; }

// Are rows of the input rows of the matrix as they are? A short piece that is no multiple of four bytes would read beyond its pixel.
bool InPlace(const ConvShape& s) { return s.pointwise() && (s.group_inputs() >= kMatrixBytes || s.c % 4 == 0); }

// The padded copy of a band: input rows by their remainder modulo stride_h ("phases"), so that each next output row reads the next row of
// each. Columns beyond the output's width, `pitch` - out_w of them, give no output.
struct Band {
  int64_t rows;        // output rows
  int64_t width;       // pixels of a padded row, a multiple of stride_w
  int64_t pitch;       // positions per output row
  int64_t plane_rows;  // of each phase
  int64_t phases;
  int64_t positions;  // those of the band, at least 16
  size_t bytes;       // of the copy

  Band(const ConvShape& s, int64_t output_rows) : rows(output_rows) {
    width = RoundUp((s.out_w() - 1) * s.stride_w + (s.kw - 1) * s.dilation_w + 1, s.stride_w);
    pitch = width / s.stride_w;
    plane_rows = rows + (s.kh - 1) * s.dilation_h / s.stride_h;
    phases = std::min(s.stride_h, (s.kh - 1) * s.dilation_h + 1);
    positions = std::max<int64_t>((rows - 1) * pitch + s.out_w(), kMatrixRows);
    // The last windows of positions without output, and the last short piece, reach beyond the planes.
    const int64_t beyond = (s.kw - 1) * s.dilation_w * s.c + kMatrixRows * s.stride_w * s.c + kMatrixBytes;
    bytes = static_cast<size_t>(phases * plane_rows * width * s.c + beyond);
  }
};

// Output rows of a band: as many as fit, at least one.
int64_t BandRows(const ConvShape& s) {
  const Band one(s, 1), two(s, 2);
  const int64_t first = static_cast<int64_t>(one.bytes), more = std::max<int64_t>(static_cast<int64_t>(two.bytes) - first, 1);
  return std::max<int64_t>(1, std::min(s.out_h(), 1 + (kBandBytes - first) / more));
}

// Offsets in bytes into the scratch memory.
struct Offsets {
  size_t offset = 0;  // ptrdiff_t[taps * pieces]
  size_t pixel = 0;   // int32[positions]
  size_t image = 0;
  size_t bytes = 0;

  Offsets(const ConvLayout& layout, const ConvShape& s) {
    offset = pack::Append(&bytes, static_cast<size_t>(layout.taps * Pieces(layout.k)) * sizeof(ptrdiff_t));
    if (InPlace(s)) {
      image = pack::Append(&bytes, static_cast<size_t>(kMatrixRows * s.c));  // fewer than 16 rows are copied here
      return;
    }
    const Band band(s, BandRows(s));
    pixel = pack::Append(&bytes, static_cast<size_t>(band.positions) * sizeof(int32_t));
    image = pack::Append(&bytes, band.bytes);
  }
};

// Copies the input under output rows [y, y + band.rows) of an image.
void CopyBand(const ConvShape& s, const uint8_t* image, int64_t y, const Band& band, uint8_t padding, uint8_t* out) {
  const size_t left = static_cast<size_t>(s.pad_left * s.c), line = static_cast<size_t>(band.width * s.c);
  const size_t inside = std::min(static_cast<size_t>(s.w * s.c), line - std::min(line, left));
  for (int64_t phase = 0; phase < band.phases; ++phase) {
    for (int64_t row = 0; row < band.plane_rows; ++row, out += line) {
      const int64_t in_y = (y + row) * s.stride_h + phase - s.pad_top;
      if (in_y < 0 || in_y >= s.h) {
        std::memset(out, padding, line);
        continue;
      }
      std::memset(out, padding, std::min(line, left));
      std::memcpy(out + std::min(line, left), image + in_y * s.w * s.c, inside);
      std::memset(out + std::min(line, left) + inside, padding, line - std::min(line, left) - inside);
    }
  }
}

// Where the pieces of a window begin in the copy.
void PieceOffsets(const ConvLayout& layout, const ConvShape& s, const Band& band, ptrdiff_t* out) {
  const int64_t pieces = Pieces(layout.k), across = Runs(s) ? 1 : s.kw;
  for (int64_t tap = 0; tap < layout.taps; ++tap) {
    const int64_t row = tap / across * s.dilation_h, column = tap % across * s.dilation_w;
    const int64_t line = row % s.stride_h * band.plane_rows + row / s.stride_h;
    for (int64_t i = 0; i < pieces; ++i) *out++ = static_cast<ptrdiff_t>((line * band.width + column) * s.c + PieceAt(layout.k, i));
  }
}

int64_t CallPositions(const ConvLayout& layout) {
  const bool in_l2 = layout.panel_bytes * static_cast<size_t>(layout.panels) <= kWeightsInL2;
  return in_l2 ? kCallPositions : kMostPositions;
}

// fn(begin, end) for pieces of about `most` of n positions, none of them below 16 if n is not.
template <typename Fn>
void ForEachCall(int64_t n, int64_t most, Fn&& fn) {
  const int64_t calls = CeilDiv(n, most), runs = n / kMatrixRows;
  int64_t begin = 0;
  for (int64_t i = 1; i <= calls; ++i) {
    const int64_t end = i == calls ? n : PieceBegin(runs, calls, i) * kMatrixRows;
    if (begin < end) fn(begin, end);
    begin = end;
  }
}

// Panels of one group: the rest of a part has to be read from another channel on.
struct Panels {
  int64_t begin, end;
  int64_t input, channel, channels;  // the first input channel, the first output channel, and how many of these there are
};

// Calls fn(panels) for the groups of a part.
template <typename Fn>
void ForEachGroup(const ConvLayout& layout, const ConvShape& s, const ConvPart& part, Fn&& fn) {
  for (int64_t p = part.panel_begin; p < part.panel_end;) {
    const int64_t group = p / layout.panels_per_group, end = std::min(part.panel_end, (group + 1) * layout.panels_per_group);
    const int64_t first = (p - group * layout.panels_per_group) * kMatrixChannels;
    fn(Panels{p, end, group * s.group_inputs(), group * s.group_outputs() + first,
              std::min((end - p) * kMatrixChannels, s.group_outputs() - first)});
    p = end;
  }
}

// Everything of a call that depends on its panels alone.
void SetPanels(const LayerU8& layer, const Panels& panels, kernels::TileMatrixU8S8* band) {
  const ConvLayout& layout = layer.layout;
  const int64_t parameter = panels.begin * kMatrixChannels;  // each group's last panel is filled up
  band->w = layer.weights() + static_cast<size_t>(panels.begin) * layout.panel_bytes;
  kernels::TileU8S8& t = band->epilogue;
  t.n = static_cast<uint32_t>(panels.channels);
  t.init = layer.init() + parameter;
  t.scale = layer.scale() + parameter;
  t.bias = layout.has_bias ? layer.bias() + parameter : nullptr;
}

// Rows [begin, end) of the input are the band's positions.
void RunInPlace(const LayerU8& layer, const ConvRun<uint8_t>& run, int64_t begin, int64_t end, const Panels& panels, uint8_t* copy,
                kernels::TileMatrixU8S8* band) {
  const ConvShape& s = run.shape;
  const int64_t rows = end - begin, channel = panels.channel;
  const uint8_t* x = run.x + begin * s.c;
  band->stride = static_cast<size_t>(s.c);
  int32_t pixels[kMatrixRows];
  band->pixel = nullptr;
  if (rows < kMatrixRows) {
    std::memcpy(copy, x, static_cast<size_t>(rows * s.c));
    x = copy;
    for (int i = 0; i < kMatrixRows; ++i) pixels[i] = i < rows ? i : -1;
    band->pixel = pixels;
  }
  band->a = x + panels.input;
  band->positions = static_cast<uint32_t>(std::max<int64_t>(rows, kMatrixRows));
  band->epilogue.residual = ResidualAt(run.residual, s, begin, channel);
  band->epilogue.out = OutputAt(run.y, run.output.f32, run.y_stride, begin, channel);
  layer.set.u8s8_matrix(*band);
}

bool Suits(const Request& request) {
  return request.codes != nullptr && request.direct() && request.set.u8s8_matrix != nullptr && !request.has_base() &&
         (request.shape.groups == 1 || request.shape.group_outputs() >= kMatrixRows);
}

// k is that of a window row (kw * c) where its pixels are neighbours, else that of one tap of a group.
void Layout(const Request& request, ConvLayout* layout) {
  const ConvShape& s = request.shape;
  layout->taps = Runs(s) ? s.kh : s.taps();
  layout->k = Runs(s) ? s.kw * s.c : s.group_inputs();
  layout->tile = {2 * kMatrixRows, kMatrixChannels, static_cast<int>(PieceBytes(layout->k))};
  layout->panels_per_group = CeilDiv(s.group_outputs(), kMatrixChannels);
  layout->panels = layout->panels_per_group * s.groups;
  layout->panel_bytes = static_cast<size_t>(layout->taps * Pieces(layout->k) * PieceBytes(layout->k) * kMatrixChannels);
  layout->channels = static_cast<size_t>(layout->panels * kMatrixChannels);
}

void PackU8(const kernels::KernelSet&, const ConvLayout& layout, const ConvShape& shape, const pack::WeightsU8& weights, Packed* packed) {
  pack::ForEachPackedPanel(layout, shape, reinterpret_cast<int8_t*>(packed->buffer.data() + layout.weights),
                           [&](int64_t channel, int64_t n, int8_t* panel) {
                             pack::PackMatrixPanel(layout, weights.codes + channel * layout.taps * layout.k, n, panel);
                           });
  PackStartValues(layout, shape, weights, packed);
}

size_t ScratchBytes(const ConvLayout& layout, const ConvShape& shape) { return Offsets(layout, shape).bytes; }

// Units are the output rows of all images, or pixels where the input is read in place. Parts are whole image rows everywhere, so that a
// thread finds what it wrote in its own caches.
Work RowWork(const ConvLayout& layout, const ConvShape& s) {
  Work work = EvenWork(layout, s, InPlace(s) ? s.rows() : s.n * s.out_h());
  work.grain = work.rows == s.rows() ? s.out_w() : 1;
  work.macs_per_byte = kMacsPerByte;
  return work;
}

void RunU8(const LayerU8& layer, const ConvRun<uint8_t>& run, const ConvPart& part, void* scratch) noexcept {
  const ConvShape& s = run.shape;
  const ConvLayout& layout = layer.layout;
  const Offsets offsets(layout, s);
  uint8_t* memory = static_cast<uint8_t*>(scratch);
  ptrdiff_t* offset = At<ptrdiff_t>(memory, offsets.offset);

  kernels::TileMatrixU8S8 band = {};
  band.offset = offset;
  band.pieces = static_cast<uint32_t>(layout.taps * Pieces(layout.k));
  band.bytes = static_cast<uint32_t>(PieceBytes(layout.k));
  band.panel_bytes = layout.panel_bytes;
  kernels::TileU8S8& t = band.epilogue;
  t.step = layer.step;
  t.output = layer.output;
  t.out_stride = run.y_stride;
  if (part.row_begin >= part.row_end) return;
  if (InPlace(s)) {
    for (int64_t i = 0; i < band.pieces; ++i) offset[i] = static_cast<ptrdiff_t>(PieceAt(layout.k, i));
    ForEachCall(part.row_end - part.row_begin, CallPositions(layout), [&](int64_t begin, int64_t end) {
      ForEachGroup(layout, s, part, [&](const Panels& panels) {
        SetPanels(layer, panels, &band);
        RunInPlace(layer, run, part.row_begin + begin, part.row_begin + end, panels, memory + offsets.image, &band);
      });
    });
    return;
  }

  int32_t* pixel = At<int32_t>(memory, offsets.pixel);
  uint8_t* copy = memory + offsets.image;
  const int64_t most = BandRows(s), out_h = s.out_h(), out_w = s.out_w();
  band.stride = static_cast<size_t>(s.stride_w * s.c);
  for (int64_t row = part.row_begin; row < part.row_end;) {
    const int64_t y = row % out_h, left = std::min(out_h - y, part.row_end - row), pieces = CeilDiv(left, most);
    const Band shape(s, PieceBegin(left, pieces, 1));
    CopyBand(s, run.x + row / out_h * s.h * s.w * s.c, y, shape, static_cast<uint8_t>(layer.zero_point), copy);
    PieceOffsets(layout, s, shape, offset);
    for (int64_t p = 0; p < shape.positions; ++p) {
      const int64_t line = p / shape.pitch, x = p % shape.pitch;
      pixel[p] = line < shape.rows && x < out_w ? static_cast<int32_t>(line * out_w + x) : -1;
    }
    ForEachCall(shape.positions, CallPositions(layout), [&](int64_t begin, int64_t end) {
      band.pixel = pixel + begin;
      band.positions = static_cast<uint32_t>(end - begin);
      ForEachGroup(layout, s, part, [&](const Panels& panels) {
        SetPanels(layer, panels, &band);
        band.a = copy + static_cast<size_t>(begin) * band.stride + panels.input;
        t.residual = ResidualAt(run.residual, s, row * out_w, panels.channel);
        t.out = OutputAt(run.y, run.output.f32, run.y_stride, row * out_w, panels.channel);
        layer.set.u8s8_matrix(band);
      });
    });
    row += shape.rows;
  }
}

Words Describe(const ConvLayout& layout, int) {
  return {"-matrix", "matrix registers: 32 pixels by 32 channels, " + std::to_string(layout.tile.kr) + " codes at a time"};
}

}  // namespace

extern const ConvMethod kMatrixMethod = {"matrix", Suits, Layout,  PackU8,   nullptr, ScratchBytes,
                                         RowWork,  RunU8, nullptr, Describe, nullptr};

}  // namespace pqi::conv
