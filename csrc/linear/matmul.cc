#include "linear/matmul.h"

#include <algorithm>

#include "pack/arrange.h"
#include "pack/columns.h"

namespace pqi::linear {
namespace {

using kernels::KernelSet;
using kernels::MatrixShape;
using kernels::TileShape;
using pack::Append;
using pack::At;
using pack::kCentre;
using pack::PackColumns;
using pack::PieceBegin;

const TileShape& TileOf(const KernelSet& set, bool integer) { return integer ? set.u8s8 : set.f32; }

// Where the arrays lie in the thread's scratch memory: offsets in bytes. The panel comes first; only products of codes have the others.
struct Offsets {
  size_t init = 0, scale = 0, base = 0;  // [nr]
  size_t box = 0;                        // int32_t[rows]
  size_t bytes = 0;

  Offsets(const TileShape& tile, bool integer, const MatrixShape& s) {
    Append(&bytes, static_cast<size_t>(pack::ColumnPanelElements(tile, s.k)) * (integer ? 1 : sizeof(float)));
    if (!integer) return;
    const size_t parameters = static_cast<size_t>(tile.nr) * 4;
    init = Append(&bytes, parameters);
    scale = Append(&bytes, parameters);
    base = Append(&bytes, parameters);
    box = Append(&bytes, static_cast<size_t>(s.m) * sizeof(int32_t));
  }
};

// box[i] = sum(q_a - z_a) of row begin + i, which fits int32; the sum of the codes alone may wrap.
void RowSums(const MatmulU8& run, int64_t begin, int64_t end, int32_t* box) {
  for (int64_t i = begin; i < end; ++i) {
    const uint8_t* row = run.a + i * run.shape.k;
    uint32_t sum = 0;
    for (int64_t k = 0; k < run.shape.k; ++k) sum += row[k];
    box[i - begin] = static_cast<int32_t>(sum - static_cast<uint32_t>(run.shape.k * run.zero_a));
  }
}

// Calls fn(first row, rows, row pointers) for tiles of nearly equal height.
template <typename T, typename Fn>
void ForEachRowTile(const T* a, int64_t k, int64_t begin, int64_t end, int mr, Fn&& fn) {
  const int64_t tiles = (end - begin + mr - 1) / mr;
  for (int64_t tile = 0; tile < tiles; ++tile) {
    const int64_t row = begin + PieceBegin(end - begin, tiles, tile), m = begin + PieceBegin(end - begin, tiles, tile + 1) - row;
    const T* pointers[kernels::kMaxMr];
    for (int64_t i = 0; i < m; ++i) pointers[i] = a + (row + i) * k;
    fn(row, m, pointers);
  }
}

}  // namespace

int64_t MatmulPanels(const KernelSet& set, bool integer, int64_t n) {
  const int nr = TileOf(set, integer).nr;
  return nr == 0 ? 1 : pack::CeilDiv(n, nr);
}

size_t MatmulScratchBytes(const KernelSet& set, bool integer, const MatrixShape& shape) {
  const TileShape& tile = TileOf(set, integer);
  return tile.mr == 0 ? 0 : Offsets(tile, integer, shape).bytes;
}

void RunMatmul(const KernelSet& set, const MatmulU8& run, int64_t panel, int64_t begin, int64_t end, void* scratch) noexcept {
  const MatrixShape& s = run.shape;
  const TileShape& tile = set.u8s8;
  if (tile.mr == 0) {
    kernels::reference::MatmulU8(s, run.a, run.zero_a, run.b, run.zero_b, run.scale, run.output, run.y, begin, end);
    return;
  }
  const int64_t first = panel * tile.nr, n = std::min<int64_t>(tile.nr, s.n - first);
  const Offsets offsets(tile, true, s);
  uint8_t* memory = static_cast<uint8_t*>(scratch);
  int8_t* codes = At<int8_t>(memory, 0);
  int32_t* init = At<int32_t>(memory, offsets.init);
  float* scale = At<float>(memory, offsets.scale);
  int32_t* base = At<int32_t>(memory, offsets.base);
  int32_t* box = At<int32_t>(memory, offsets.box);
  PackColumns(s, run.b, first, n, tile, codes, init);
  for (int i = 0; i < tile.nr; ++i) {
    init[i] = static_cast<int32_t>(static_cast<uint32_t>(set.u8s8_offset - run.zero_a) * static_cast<uint32_t>(init[i]));  // wraps
    scale[i] = run.scale;
    base[i] = kCentre - run.zero_b;
  }
  const bool has_base = run.zero_b != kCentre;
  if (has_base) RowSums(run, begin, end, box);
  const kernels::TileScope scope(set);
  kernels::TileU8S8 t = {};
  t.taps = 1;
  t.k = static_cast<uint32_t>(s.k);
  t.n = static_cast<uint32_t>(n);
  t.w = codes;
  t.init = init;
  t.scale = scale;
  t.step = 1;
  t.base = has_base ? base : nullptr;
  t.output = run.output;
  t.out_stride = static_cast<size_t>(s.n);
  ForEachRowTile(run.a, s.k, begin, end, tile.mr, [&](int64_t row, int64_t m, const uint8_t* const* pointers) {
    t.a = pointers;
    t.box = box + (row - begin);
    t.out = static_cast<uint8_t*>(run.y) + (row * s.n + first) * (run.output.f32 ? 4 : 1);
    set.u8s8_tile[m - 1](t);
  });
}

void RunMatmul(const KernelSet& set, const MatmulF32& run, int64_t panel, int64_t begin, int64_t end, void* scratch) noexcept {
  const MatrixShape& s = run.shape;
  const TileShape& tile = set.f32;
  if (tile.mr == 0) {
    kernels::reference::MatmulF32(s, run.a, run.b, run.y, begin, end);
    return;
  }
  const int64_t first = panel * tile.nr, n = std::min<int64_t>(tile.nr, s.n - first);
  float* weights = static_cast<float*>(scratch);
  PackColumns(s, run.b, first, n, tile.nr, weights);
  kernels::TileF32 t = {};
  t.taps = 1;
  t.k = static_cast<uint32_t>(s.k);
  t.n = static_cast<uint32_t>(n);
  t.w = weights;
  t.act_lo = -__builtin_inff();
  t.act_hi = __builtin_inff();
  t.out_stride = static_cast<size_t>(s.n);
  ForEachRowTile(run.a, s.k, begin, end, tile.mr, [&](int64_t row, int64_t m, const float* const* pointers) {
    t.a = pointers;
    t.out = run.y + row * s.n + first;
    set.f32_tile[m - 1](t);
  });
}

}  // namespace pqi::linear
