#include "conv/winograd_input.h"

#include <algorithm>

#include "pack/arrange.h"

namespace pqi::conv {
namespace {

using kernels::ConvShape;
using pack::Append;
using pack::At;
using pack::CeilDiv;
using pack::PieceBegin;

// The padded rows under as many output rows as `tiles` neighbours of the grid can lie in.
int64_t PaddedRows(const TileGrid& grid, int64_t images, int64_t tiles) {
  const int64_t rows = std::min(CeilDiv(tiles - 1, grid.across) + 1, images * grid.down);
  return rows + 2 * std::min(CeilDiv(rows - 1, grid.down) + 1, images);
}

int64_t PaddedRow(const TileGrid& grid, const TileGrid::Place& place) { return place.image * (grid.down + 2) + place.y; }

// The `size` x `size` input pixels under a tile; those outside the image are padding.
void PixelPointers(const ConvShape& s, int64_t size, const uint8_t* x, const uint8_t* padding, const TileGrid::Place& tile,
                   const uint8_t** out) {
  const int64_t y0 = tile.y - s.pad_top, x0 = tile.x - s.pad_left;
  if (y0 >= 0 && y0 + size <= s.h && x0 >= 0 && x0 + size <= s.w) {
    const uint8_t* line = x + ((tile.image * s.h + y0) * s.w + x0) * s.c;
    for (int64_t i = 0; i < size; ++i, line += s.w * s.c, out += size) {
      for (int64_t j = 0; j < size; ++j) out[j] = line + j * s.c;
    }
    return;
  }
  for (int64_t i = 0; i < size; ++i, out += size) {
    const int64_t y = y0 + i;
    const bool row_inside = y >= 0 && y < s.h;
    const int64_t first = ((tile.image * s.h + y) * s.w + x0) * s.c;
    for (int64_t j = 0; j < size; ++j) {
      const bool inside = row_inside && x0 + j >= 0 && x0 + j < s.w;
      out[j] = inside ? x + (first + j * s.c) : padding;
    }
  }
}

}  // namespace

// A cache line between planes keeps the positions of a tile in different sets of L1.
TransformedLayout::TransformedLayout(const ConvLayout& layout, const ConvShape& s, size_t* bytes) {
  const WinogradFilter& filter = *layout.algorithm.filter;
  const TileGrid grid(filter, s);
  const bool rows_stay = filter.taps() > 1;
  const size_t positions = static_cast<size_t>(filter.positions());
  const int64_t tiles = rows_stay ? grid.across : layout.block_rows;
  if (rows_stay) slots = PaddedRows(grid, s.n, layout.block_rows);
  stride = static_cast<size_t>(pack::RoundUp(s.c, kernels::kWinogradPad));
  plane = static_cast<size_t>(tiles) * stride + kAlignment;
  padding = Append(bytes, stride);
  pixels =
      Append(bytes, static_cast<size_t>(rows_stay ? grid.columns * tiles + 2 : filter.pixels_across() * filter.pixels_across() * tiles) *
                        sizeof(const uint8_t*));
  rows = Append(bytes, static_cast<size_t>(filter.taps() * layout.block_rows) * sizeof(const uint8_t*));
  v = Append(bytes, static_cast<size_t>(slots) * positions * plane);
}

TransformedInput::TransformedInput(const LayerU8& layer, const TransformedLayout& at, const ConvRun<uint8_t>& run, uint8_t* memory) noexcept
    : layer_(layer),
      at_(at),
      shape_(run.shape),
      filter_(*layer.layout.algorithm.filter),
      grid_(filter_, run.shape),
      x_(run.x),
      padding_(memory + at.padding),
      pixels_(At<const uint8_t*>(memory, at.pixels)),
      rows_(At<const uint8_t*>(memory, at.rows)),
      v_(memory + at.v) {
  std::fill(padding_, padding_ + shape_.c, static_cast<uint8_t>(layer.zero_point));
  if (filter_.taps() > 1) return;
  for (int64_t t = 0; t < layer.layout.block_rows; ++t) rows_[t] = v_ + static_cast<size_t>(t) * at.stride;
}

void TransformedInput::Load(int64_t first, int64_t tiles) noexcept {
  if (filter_.taps() > 1) return LoadRows(first, tiles);
  LoadTiles(first, tiles);
}

void TransformedInput::Transform(int64_t tiles, uint8_t* v) noexcept {
  (layer_.set.*filter_.kernels)
      .input(
          {pixels_, static_cast<uint32_t>(tiles), static_cast<uint32_t>(shape_.c), layer_.packed.raised.data(), v, at_.stride, at_.plane});
}

void TransformedInput::LoadTiles(int64_t first, int64_t tiles) noexcept {
  const int64_t size = filter_.pixels_across();
  for (int64_t t = 0; t < tiles; ++t) PixelPointers(shape_, size, x_, padding_, grid_.At(first + t), pixels_ + t * size * size);
  Transform(tiles, v_);
}

uint8_t* TransformedInput::Slot(int64_t padded_row) const noexcept {
  return v_ + static_cast<size_t>(padded_row % at_.slots * filter_.positions()) * at_.plane;
}

void TransformedInput::TransformRow(int64_t padded_row) noexcept {
  const ConvShape& s = shape_;
  const int64_t y = padded_row % (grid_.down + 2) - s.pad_top, columns = grid_.columns * grid_.across + 2;
  const bool inside = y >= 0 && y < s.h;
  const int64_t begin = std::min(inside ? s.pad_left : columns, columns), end = std::max(std::min(s.pad_left + s.w, columns), begin);
  const int64_t first = (padded_row / (grid_.down + 2) * s.h + y) * s.w - s.pad_left;
  std::fill(pixels_, pixels_ + begin, padding_);
  for (int64_t i = begin; i < end; ++i) pixels_[i] = x_ + (first + i) * s.c;
  std::fill(pixels_ + end, pixels_ + columns, padding_);
  Transform(grid_.across, Slot(padded_row));
}

void TransformedInput::LoadRows(int64_t first, int64_t tiles) noexcept {
  const int64_t end = PaddedRow(grid_, grid_.At(first + tiles - 1)) + 3;
  for (int64_t row = std::max(transformed_, PaddedRow(grid_, grid_.At(first))); row < end; ++row) TransformRow(row);
  transformed_ = end;
  const int64_t groups = CeilDiv(tiles, layer_.layout.tile.mr);
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t begin = PieceBegin(tiles, groups, g), m = PieceBegin(tiles, groups, g + 1) - begin;
    PointToRows(first + begin, m, rows_ + begin * filter_.taps());
  }
}

// Fills list[taps][m] for m tiles from `first` on, one run of neighbours in x after the other.
void TransformedInput::PointToRows(int64_t first, int64_t m, const uint8_t** list) const noexcept {
  for (int64_t i = 0; i < m;) {
    const TileGrid::Place place = grid_.At(first + i);
    const int64_t x = place.x / grid_.columns, count = std::min(m - i, grid_.across - x);
    for (int64_t tap = 0; tap < filter_.taps(); ++tap) {
      const uint8_t* v = Slot(PaddedRow(grid_, place) + tap) + static_cast<size_t>(x) * at_.stride;
      const uint8_t** out = list + tap * m + i;
      for (int64_t j = 0; j < count; ++j) out[j] = v + static_cast<size_t>(j) * at_.stride;
    }
    i += count;
  }
}

}  // namespace pqi::conv
