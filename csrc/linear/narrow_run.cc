#include "linear/narrow_run.h"

#include <algorithm>
#include <cstring>

#include "pack/arrange.h"

namespace pqi::linear {
namespace {

using kernels::KernelSet;
using pack::At;
using pack::CeilDiv;
using pack::NarrowPanels;
using pack::PieceBegin;
using pack::RoundUp;

// Unpacked codes of a piece, beside which a tile's rows fit L1.
constexpr int64_t kPieceBytes = 16384;
// Tiles of rows up to which a packed panel is read again for each of them rather than unpacked.
constexpr int64_t kFewTiles = 2;

// Groups of a panel that are unpacked at a time.
int64_t PieceGroups(const NarrowPanels& p) {
  const kernels::NarrowKernels& narrow = p.set().narrow;
  return std::min(p.groups(), std::max<int64_t>(kPieceBytes / (RoundUp(p.k(), narrow.piece) * narrow.nr), 1));
}

// Where the arrays lie in the thread's scratch memory: offsets in bytes. A layer of one group unpacks a whole unit for the set's own tiles
// (`width` channels), others a piece of one panel.
struct Scratch {
  size_t sums = 0;      // float or int32_t[block_rows][nr]
  size_t codes = 0;     // int8_t: unpacked codes
  size_t code_sum = 0;  // float[groups of the piece][nr]; with one group float[width], and int32_t[width] behind them
  size_t scale = 0;     // float[groups of the piece][nr]; with one group float[width]
  size_t shift = 0;     // float[block_rows]
  size_t pointers = 0;  // const uint8_t*[mr]
  size_t bytes = 0;

  Scratch(const NarrowPanels& p, int64_t block_rows) {
    const kernels::NarrowKernels& narrow = p.set().narrow;
    const bool one_group = p.groups() == 1;
    const size_t nr = static_cast<size_t>(narrow.nr), width = nr * static_cast<size_t>(p.unit_panels());
    const int64_t piece_groups = PieceGroups(p);
    sums = pack::Append(&bytes, static_cast<size_t>(block_rows) * nr * sizeof(float));
    codes = pack::Append(
        &bytes, one_group ? static_cast<size_t>(p.k()) * width : static_cast<size_t>(piece_groups * RoundUp(p.k(), narrow.piece)) * nr);
    const size_t lines = one_group ? width : static_cast<size_t>(piece_groups) * nr;
    code_sum = pack::Append(&bytes, lines * sizeof(float) * (one_group ? 2 : 1));
    scale = pack::Append(&bytes, lines * sizeof(float));
    shift = pack::Append(&bytes, static_cast<size_t>(block_rows) * sizeof(float));
    pointers = pack::Append(&bytes, static_cast<size_t>(p.set().u8s8.mr) * sizeof(const uint8_t*));
  }
};

// A block of rows in progress.
class NarrowRun {
 public:
  NarrowRun(const NarrowPanels& panels, const NarrowRows& rows, int64_t block_rows, uint8_t* scratch)
      : panels_(panels),
        set_(panels.set()),
        rows_(rows),
        at_(panels, block_rows),
        scratch_(scratch),
        nr_(set_.narrow.nr),
        width_(panels.bits() / 4) {}

  void Run(int64_t unit_begin, int64_t unit_end) {
    const bool few = rows_.count <= kFewTiles * set_.narrow.mr;
    if (!few && panels_.groups() == 1) {
      for (int64_t unit = unit_begin; unit < unit_end; ++unit) RunOneGroup(unit);
      return;
    }
    if (!few) {
      std::memset(scratch_ + at_.codes, 0, at_.code_sum - at_.codes);
      for (int64_t i = 0; i < rows_.count; ++i) At<float>(scratch_, at_.shift)[i] = static_cast<float>(rows_.shift[i]);
    }
    const int64_t end = std::min(unit_end * panels_.unit_panels(), CeilDiv(panels_.outputs(), nr_));
    for (int64_t panel = unit_begin * panels_.unit_panels(); panel < end; ++panel) {
      if (few) {
        RunPacked(panel);
      } else {
        RunUnpacked(panel);
      }
    }
  }

 private:
  void RunPacked(int64_t panel) {
    kernels::NarrowTile t = {};
    t.a_stride = panels_.RowBytes();
    t.k = static_cast<uint32_t>(panels_.k());
    t.groups = static_cast<uint32_t>(panels_.groups());
    t.w = panels_.Panel(panel);
    t.sums = scratch_ + at_.sums;
    const int64_t tiles = CeilDiv(rows_.count, set_.narrow.mr);
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int64_t row = PieceBegin(rows_.count, tiles, tile), m = PieceBegin(rows_.count, tiles, tile + 1) - row;
      t.a = rows_.codes + static_cast<size_t>(row) * t.a_stride;
      t.shift = rows_.shift + row;
      set_.narrow.tile[width_][m - 1](t);
      Finish(panel, row, m, t.sums);
    }
  }

  void RunUnpacked(int64_t panel) {
    const kernels::NarrowKernels& narrow = set_.narrow;
    const int64_t tiles = CeilDiv(rows_.count, narrow.unpacked_mr), piece_groups = PieceGroups(panels_);
    kernels::UnpackNarrow u = {};
    u.k = static_cast<uint32_t>(panels_.k());
    u.codes = At<int8_t>(scratch_, at_.codes);
    u.block_stride = static_cast<size_t>(nr_) * 4;
    u.group_stride = static_cast<size_t>(RoundUp(panels_.k(), narrow.piece) * nr_);
    u.code_sum = At<float>(scratch_, at_.code_sum);
    u.scale = At<float>(scratch_, at_.scale);
    kernels::NarrowUnpacked t = {};
    t.a_stride = panels_.RowBytes();
    t.k = u.k;
    t.codes = u.codes;
    t.group_bytes = u.group_stride;
    t.code_sum = u.code_sum;
    t.scale = u.scale;
    float* sums = At<float>(scratch_, at_.sums);
    for (int64_t g = 0; g < panels_.groups(); g += piece_groups) {
      u.w = panels_.Panel(panel) + static_cast<size_t>(g) * panels_.GroupBytes();
      u.groups = t.groups = static_cast<uint32_t>(std::min(piece_groups, panels_.groups() - g));
      narrow.unpack[width_](u);
      t.first = g == 0;
      for (int64_t tile = 0; tile < tiles; ++tile) {
        const int64_t row = PieceBegin(rows_.count, tiles, tile), m = PieceBegin(rows_.count, tiles, tile + 1) - row;
        t.a = rows_.codes + static_cast<size_t>(row) * t.a_stride + g * panels_.k();
        t.shift = At<float>(scratch_, at_.shift) + row;
        t.sums = sums + row * nr_;
        narrow.unpacked_tile[m - 1](t);
      }
    }
    Finish(panel, 0, rows_.count, sums);
  }

  // The whole depth is one sum, so the set's own tile runs over a unit that was unpacked for it.
  void RunOneGroup(int64_t unit) {
    const int64_t width = nr_ * panels_.unit_panels(), mr = set_.u8s8.mr, first = unit * width;
    float* sums = At<float>(scratch_, at_.code_sum);
    int32_t* code_sum = reinterpret_cast<int32_t*>(sums + width);
    for (int64_t i = 0; i < panels_.unit_panels(); ++i) {
      kernels::UnpackNarrow u = {};
      u.w = panels_.Panel(unit * panels_.unit_panels() + i);
      u.k = static_cast<uint32_t>(panels_.k());
      u.groups = 1;
      u.codes = At<int8_t>(scratch_, at_.codes) + i * nr_ * 4;
      u.block_stride = static_cast<size_t>(width) * 4;
      u.code_sum = sums + i * nr_;
      u.scale = At<float>(scratch_, at_.scale) + i * nr_;
      set_.narrow.unpack[width_](u);
    }
    for (int64_t i = 0; i < width; ++i) code_sum[i] = static_cast<int32_t>(sums[i]);
    const uint8_t** pointers = At<const uint8_t*>(scratch_, at_.pointers);
    kernels::DynamicRows dynamic = {};
    dynamic.code_sum = code_sum;
    kernels::TileU8S8 t = {};
    t.a = pointers;
    t.taps = 1;
    t.k = static_cast<uint32_t>(panels_.k());
    t.n = static_cast<uint32_t>(std::min(width, panels_.outputs() - first));
    t.w = At<int8_t>(scratch_, at_.codes);
    t.init = panels_.ZeroStart();
    t.scale = panels_.Scale(first);
    t.bias = panels_.Bias(first);
    t.step = 1;
    t.output = rows_.output;
    t.out_stride = static_cast<size_t>(panels_.outputs());
    t.rows = &dynamic;
    const int64_t tiles = CeilDiv(rows_.count, mr);
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int64_t row = PieceBegin(rows_.count, tiles, tile), m = PieceBegin(rows_.count, tiles, tile + 1) - row;
      for (int64_t i = 0; i < m; ++i) pointers[i] = rows_.codes + static_cast<size_t>(row + i) * panels_.RowBytes();
      dynamic.scale = rows_.scale + row;
      dynamic.shift = rows_.shift + row;
      t.out = OutputAt(row, first);
      set_.u8s8_tile[m - 1](t);
    }
  }

  // Scales, bias and epilogue for the sums of m rows.
  void Finish(int64_t panel, int64_t row, int64_t m, const void* sums) {
    const int64_t first = panel * nr_;
    kernels::FinishNarrow f = {};
    f.sums = sums;
    f.stride = static_cast<size_t>(nr_);
    f.m = static_cast<uint32_t>(m);
    f.n = static_cast<uint32_t>(std::min(nr_, panels_.outputs() - first));
    f.row_scale = rows_.scale + row;
    f.scale = panels_.groups() == 1 ? panels_.Scale(first) : nullptr;
    f.bias = panels_.Bias(first);
    f.output = rows_.output;
    f.out = OutputAt(row, first);
    f.out_stride = static_cast<size_t>(panels_.outputs());
    set_.narrow.finish(f);
  }

  void* OutputAt(int64_t row, int64_t channel) const {
    return static_cast<uint8_t*>(rows_.y) + (row * panels_.outputs() + channel) * (rows_.output.f32 ? 4 : 1);
  }

  const NarrowPanels& panels_;
  const KernelSet& set_;
  const NarrowRows& rows_;
  const Scratch at_;
  uint8_t* const scratch_;
  const int64_t nr_;
  const int width_;  // index into NarrowKernels: 0 for 2 bits, 1 for 4
};

}  // namespace

size_t NarrowScratchBytes(const NarrowPanels& panels, int64_t block_rows) { return Scratch(panels, block_rows).bytes; }

void RunNarrow(const NarrowPanels& panels, const NarrowRows& rows, int64_t unit_begin, int64_t unit_end, int64_t block_rows,
               uint8_t* scratch) {
  NarrowRun(panels, rows, block_rows, scratch).Run(unit_begin, unit_end);
}

}  // namespace pqi::linear
