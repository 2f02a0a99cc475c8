#include "pack/narrow.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "pack/arrange.h"

namespace pqi::pack {
namespace {

using kernels::reference::DynamicLinear;

constexpr int64_t kShortestGroup = 16;
// Sums of 8-bit activations times codes times 2^(8 - bits) fit int32.
constexpr int64_t kLongestGroup = 65793;
// Unpacked codes of a piece, beside which a tile's rows fit L1.
constexpr int64_t kPieceBytes = 16384;
// Rows up to which a packed panel is read again for every few of them rather than unpacked.
constexpr int64_t kFewTiles = 2;

}  // namespace

int NarrowPanels::Bits(const kernels::KernelSet& set, const DynamicLinear& layer) {
  const int64_t k = layer.inputs / layer.groups;
  if (set.narrow.nr == 0 || layer.base != nullptr || layer.step != 1) return 0;
  if (k < kShortestGroup || k > (layer.groups == 1 ? kLongestGroup : kernels::kNarrowExact)) return 0;
  const int8_t* end = layer.codes + layer.outputs * layer.inputs;
  const auto range = std::minmax_element(layer.codes, end);
  const int lo = *range.first, hi = *range.second;
  if (lo < -8 || hi > 7) return 0;
  const int bits = lo < -2 || hi > 1 ? 4 : 2;
  // A scale divided by a power of two must not lose bits.
  const float least = std::ldexp(std::numeric_limits<float>::min(), set.narrow.shift[bits / 4]);
  for (int64_t i = 0; i < layer.outputs * layer.groups; ++i) {
    if (std::fabs(layer.scale[i]) < least) return 0;
  }
  return bits;
}

NarrowPanels::NarrowPanels(const kernels::KernelSet& set, const DynamicLinear& layer)
    : set_(&set),
      bits_(Bits(set, layer)),
      inputs_(layer.inputs),
      outputs_(layer.outputs),
      groups_(layer.groups),
      has_bias_(layer.bias != nullptr) {
  const int64_t nr = set.narrow.nr, width = std::max<int64_t>(nr, set.u8s8.nr);
  k_ = RoundUp(inputs_ / groups_, 4 * 8 / bits_);
  unit_ = width / nr;
  panels_ = CeilDiv(outputs_, width);
  piece_groups_ = std::min(groups_, std::max<int64_t>(kPieceBytes / (RoundUp(k_, set.narrow.piece) * nr), 1));
  panel_bytes_ = static_cast<size_t>(groups_) * GroupBytes();
  Pack(layer);
}

size_t NarrowPanels::GroupBytes() const { return static_cast<size_t>(set_->narrow.nr * (k_ * bits_ / 8 + 4)); }

// An odd number of cache lines: rows a multiple of 4096 bytes apart would meet in the same few sets of L1.
size_t NarrowPanels::RowBytes() const { return static_cast<size_t>(((groups_ * k_ + 63) / 64 | 1) * 64); }

int64_t NarrowPanels::SpareRows() const { return set_->narrow.reads; }

void NarrowPanels::Pack(const DynamicLinear& layer) {
  const int64_t nr = set_->narrow.nr, k = inputs_ / groups_, fields = 8 / bits_, packed = panels_ * unit_;
  const size_t floats = static_cast<size_t>(packed * nr) * sizeof(float);
  size_t bytes = 0;
  Append(&bytes, static_cast<size_t>(packed) * panel_bytes_);
  if (groups_ == 1) scale_ = Append(&bytes, floats);
  if (has_bias_) bias_ = Append(&bytes, floats);
  init_ = Append(&bytes, static_cast<size_t>(set_->u8s8.nr) * sizeof(int32_t));
  buffer_ = AlignedBuffer<uint8_t>(bytes);
  uint8_t* memory = buffer_.data();
  for (int64_t o = 0; o < outputs_; ++o) {
    if (has_bias_) At<float>(memory, bias_)[o] = layer.bias[o];
    if (groups_ == 1) At<float>(memory, scale_)[o] = layer.scale[o];
    uint8_t* panel = memory + static_cast<size_t>(o / nr) * panel_bytes_;
    for (int64_t g = 0; g < groups_; ++g) {
      uint8_t* group = panel + static_cast<size_t>(g) * GroupBytes();
      const int8_t* codes = layer.codes + o * inputs_ + g * k;
      for (int64_t i = 0; i < k; ++i) {
        const int64_t line = i / (4 * fields), field = i / 4 % fields;
        const int code = codes[i] & ((1 << bits_) - 1);
        group[line * nr * 4 + o % nr * 4 + i % 4] |= static_cast<uint8_t>(code << (field * bits_));
      }
      const float scale = std::ldexp(layer.scale[o * groups_ + g], -set_->narrow.shift[bits_ / 4]);
      std::memcpy(group + nr * k_ * bits_ / 8 + o % nr * 4, &scale, sizeof scale);
    }
  }
}

void NarrowPanels::ArrangeRow(uint8_t* row) const {
  const size_t k = static_cast<size_t>(inputs_ / groups_), packed = static_cast<size_t>(k_);
  if (k == packed) return;
  for (size_t g = static_cast<size_t>(groups_); g-- > 0;) {
    std::memmove(row + g * packed, row + g * k, k);
    std::memset(row + g * packed + k, 0, packed - k);
  }
}

NarrowPanels::Scratch NarrowPanels::Places(int64_t block_rows) const {
  const kernels::NarrowKernels& narrow = set_->narrow;
  const size_t nr = static_cast<size_t>(narrow.nr), width = nr * static_cast<size_t>(unit_);
  Scratch at;
  at.sums = Append(&at.bytes, static_cast<size_t>(block_rows) * nr * sizeof(float));
  const size_t codes = groups_ == 1 ? static_cast<size_t>(k_) * width : static_cast<size_t>(piece_groups_ * RoundUp(k_, narrow.piece)) * nr;
  at.codes = Append(&at.bytes, codes);
  const size_t lines = groups_ == 1 ? width : static_cast<size_t>(piece_groups_) * nr;
  at.code_sum = Append(&at.bytes, lines * sizeof(float) * (groups_ == 1 ? 2 : 1));
  at.scale = Append(&at.bytes, lines * sizeof(float));
  at.shift = Append(&at.bytes, static_cast<size_t>(block_rows) * sizeof(float));
  at.pointers = Append(&at.bytes, static_cast<size_t>(set_->u8s8.mr) * sizeof(const uint8_t*));
  return at;
}

void NarrowPanels::Run(const NarrowRows& rows, int64_t panel_begin, int64_t panel_end, int64_t block_rows, uint8_t* scratch) const {
  const Scratch at = Places(block_rows);
  const bool packed = rows.count <= kFewTiles * set_->narrow.mr;
  const int64_t end = std::min(panel_end * unit_, CeilDiv(outputs_, set_->narrow.nr));
  if (!packed && groups_ == 1) {
    for (int64_t unit = panel_begin; unit < panel_end; ++unit) RunOneGroup(rows, unit, at, scratch);
    return;
  }
  if (!packed) {
    std::memset(scratch + at.codes, 0, at.code_sum - at.codes);
    for (int64_t i = 0; i < rows.count; ++i) At<float>(scratch, at.shift)[i] = static_cast<float>(rows.shift[i]);
  }
  for (int64_t panel = panel_begin * unit_; panel < end; ++panel) {
    if (packed) {
      RunPacked(rows, panel, at, scratch);
    } else {
      RunUnpacked(rows, panel, at, scratch);
    }
  }
}

void NarrowPanels::RunPacked(const NarrowRows& rows, int64_t panel, const Scratch& at, uint8_t* scratch) const {
  const kernels::NarrowKernels& narrow = set_->narrow;
  kernels::NarrowTile t = {};
  t.a_stride = RowBytes();
  t.k = static_cast<uint32_t>(k_);
  t.groups = static_cast<uint32_t>(groups_);
  t.w = Panel(panel);
  t.sums = scratch + at.sums;
  const int64_t tiles = CeilDiv(rows.count, narrow.mr);
  for (int64_t tile = 0; tile < tiles; ++tile) {
    const int64_t row = PieceBegin(rows.count, tiles, tile), m = PieceBegin(rows.count, tiles, tile + 1) - row;
    t.a = rows.codes + static_cast<size_t>(row) * t.a_stride;
    t.shift = rows.shift + row;
    narrow.tile[bits_ / 4][m - 1](t);
    Finish(rows, panel, row, m, t.sums);
  }
}

void NarrowPanels::RunUnpacked(const NarrowRows& rows, int64_t panel, const Scratch& at, uint8_t* scratch) const {
  const kernels::NarrowKernels& narrow = set_->narrow;
  const int64_t nr = narrow.nr, tiles = CeilDiv(rows.count, narrow.unpacked_mr);
  kernels::UnpackNarrow u = {};
  u.k = static_cast<uint32_t>(k_);
  u.codes = At<int8_t>(scratch, at.codes);
  u.block_stride = static_cast<size_t>(nr) * 4;
  u.group_stride = static_cast<size_t>(RoundUp(k_, narrow.piece) * nr);
  u.code_sum = At<float>(scratch, at.code_sum);
  u.scale = At<float>(scratch, at.scale);
  kernels::NarrowUnpacked t = {};
  t.a_stride = RowBytes();
  t.k = u.k;
  t.codes = u.codes;
  t.group_bytes = u.group_stride;
  t.code_sum = u.code_sum;
  t.scale = u.scale;
  float* sums = At<float>(scratch, at.sums);
  for (int64_t g = 0; g < groups_; g += piece_groups_) {
    u.w = Panel(panel) + static_cast<size_t>(g) * GroupBytes();
    u.groups = t.groups = static_cast<uint32_t>(std::min(piece_groups_, groups_ - g));
    narrow.unpack[bits_ / 4](u);
    t.first = g == 0;
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int64_t row = PieceBegin(rows.count, tiles, tile), m = PieceBegin(rows.count, tiles, tile + 1) - row;
      t.a = rows.codes + static_cast<size_t>(row) * t.a_stride + g * k_;
      t.shift = At<float>(scratch, at.shift) + row;
      t.sums = sums + row * nr;
      narrow.unpacked_tile[m - 1](t);
    }
  }
  Finish(rows, panel, 0, rows.count, sums);
}

// The whole depth is one sum: the set's own tile over a panel unpacked for it.
void NarrowPanels::RunOneGroup(const NarrowRows& rows, int64_t unit, const Scratch& at, uint8_t* scratch) const {
  const int64_t nr = set_->narrow.nr, width = nr * unit_, mr = set_->u8s8.mr, first = unit * width;
  float* sums = At<float>(scratch, at.code_sum);
  int32_t* code_sum = reinterpret_cast<int32_t*>(sums + width);
  for (int64_t i = 0; i < unit_; ++i) {
    kernels::UnpackNarrow u = {};
    u.w = Panel(unit * unit_ + i);
    u.k = static_cast<uint32_t>(k_);
    u.groups = 1;
    u.codes = At<int8_t>(scratch, at.codes) + i * nr * 4;
    u.block_stride = static_cast<size_t>(width) * 4;
    u.code_sum = sums + i * nr;
    u.scale = At<float>(scratch, at.scale) + i * nr;
    set_->narrow.unpack[bits_ / 4](u);
  }
  for (int64_t i = 0; i < width; ++i) code_sum[i] = static_cast<int32_t>(sums[i]);
  const uint8_t** pointers = At<const uint8_t*>(scratch, at.pointers);
  kernels::DynamicRows dynamic = {};
  dynamic.code_sum = code_sum;
  kernels::TileU8S8 t = {};
  t.a = pointers;
  t.taps = 1;
  t.k = static_cast<uint32_t>(k_);
  t.n = static_cast<uint32_t>(std::min(width, outputs_ - first));
  t.w = At<int8_t>(scratch, at.codes);
  t.init = At<int32_t>(buffer_.data(), init_);
  t.scale = At<float>(buffer_.data(), scale_) + first;
  t.bias = has_bias_ ? At<float>(buffer_.data(), bias_) + first : nullptr;
  t.step = 1;
  t.output = rows.output;
  t.out_stride = static_cast<size_t>(outputs_);
  t.rows = &dynamic;
  const int64_t tiles = CeilDiv(rows.count, mr);
  for (int64_t tile = 0; tile < tiles; ++tile) {
    const int64_t row = PieceBegin(rows.count, tiles, tile), m = PieceBegin(rows.count, tiles, tile + 1) - row;
    for (int64_t i = 0; i < m; ++i) pointers[i] = rows.codes + static_cast<size_t>(row + i) * RowBytes();
    dynamic.scale = rows.scale + row;
    dynamic.shift = rows.shift + row;
    t.out = static_cast<uint8_t*>(rows.y) + (row * outputs_ + first) * (rows.output.f32 ? 4 : 1);
    set_->u8s8_tile[m - 1](t);
  }
}

void NarrowPanels::Finish(const NarrowRows& rows, int64_t panel, int64_t row, int64_t m, const void* sums) const {
  const int64_t nr = set_->narrow.nr, first = panel * nr;
  kernels::FinishNarrow f = {};
  f.sums = sums;
  f.stride = static_cast<size_t>(nr);
  f.m = static_cast<uint32_t>(m);
  f.n = static_cast<uint32_t>(std::min(nr, outputs_ - first));
  f.row_scale = rows.scale + row;
  f.scale = groups_ == 1 ? At<float>(buffer_.data(), scale_) + first : nullptr;
  f.bias = has_bias_ ? At<float>(buffer_.data(), bias_) + first : nullptr;
  f.output = rows.output;
  f.out = static_cast<uint8_t*>(rows.y) + (row * outputs_ + first) * (rows.output.f32 ? 4 : 1);
  f.out_stride = static_cast<size_t>(outputs_);
  set_->narrow.finish(f);
}

}  // namespace pqi::pack
