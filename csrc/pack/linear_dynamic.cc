#include "pack/linear_dynamic.h"

#include <algorithm>
#include <cstring>

#include "pack/arrange.h"
#include "pack/panel.h"

namespace pqi::pack {
namespace {

using kernels::Affine;
using kernels::reference::DynamicLinear;

// Codes of a block of rows stay in L2 beside a panel of weights.
constexpr int64_t kBlockBytes = int64_t{1} << 18, kBlockRows = 240;
// A packed panel is small, and unpacked once for each block.
constexpr int64_t kNarrowBlockBytes = int64_t{1} << 19;

}  // namespace

PackedLinearDynamic::PackedLinearDynamic(const kernels::KernelSet& set, const DynamicLinear& layer, const kernels::RowQuantizer& quantizer)
    : set_(&set),
      quantizer_(quantizer),
      inputs_(layer.inputs),
      outputs_(layer.outputs),
      groups_(layer.groups),
      step_(layer.step),
      has_base_(layer.base != nullptr),
      has_bias_(layer.bias != nullptr) {
  const int64_t mr = set.u8s8.mr;
  if (NarrowPanels::Bits(set, layer) != 0) {
    PackNarrow(layer);
    return;
  }
  if (mr == 0) {
    KeepOrder(layer);
  } else {
    PackTiles(layer);
    block_rows_ = std::max(std::min(kBlockRows, kBlockBytes / inputs_) / mr * mr, mr);
  }
  const size_t rows = static_cast<size_t>(block_rows_);
  scratch_.codes = Append(&scratch_.bytes, rows * static_cast<size_t>(inputs_));
  scratch_.scale = Append(&scratch_.bytes, rows * sizeof(float));
  scratch_.shift = Append(&scratch_.bytes, rows * sizeof(int32_t));
  if (has_base_) scratch_.boxes = Append(&scratch_.bytes, rows * static_cast<size_t>(groups_) * sizeof(int32_t));
  scratch_.pointers = Append(&scratch_.bytes, static_cast<size_t>(mr) * sizeof(const uint8_t*));
  if (groups_ > 1) scratch_.partial = Append(&scratch_.bytes, static_cast<size_t>(mr * set.u8s8.nr) * sizeof(float));
}

void PackedLinearDynamic::PackNarrow(const DynamicLinear& layer) {
  narrow_.emplace(*set_, layer);
  panels_ = narrow_->panels();
  const int64_t row_bytes = static_cast<int64_t>(narrow_->RowBytes()), mr = std::max(set_->narrow.unpacked_mr, set_->u8s8.mr);
  block_rows_ = std::max(std::min(kBlockRows, kNarrowBlockBytes / row_bytes) / mr * mr, mr);
  const size_t rows = static_cast<size_t>(block_rows_);
  scratch_.codes = Append(&scratch_.bytes, static_cast<size_t>((block_rows_ + narrow_->SpareRows()) * row_bytes));
  scratch_.scale = Append(&scratch_.bytes, rows * sizeof(float));
  scratch_.shift = Append(&scratch_.bytes, rows * sizeof(int32_t));
  scratch_.narrow = Append(&scratch_.bytes, narrow_->ScratchBytes(block_rows_));
}

void PackedLinearDynamic::KeepOrder(const DynamicLinear& layer) {
  const size_t outputs = static_cast<size_t>(outputs_), pairs = outputs * static_cast<size_t>(groups_);
  size_t bytes = 0;
  Append(&bytes, outputs * static_cast<size_t>(inputs_));
  scale_ = Append(&bytes, pairs * sizeof(float));
  if (has_base_) base_ = Append(&bytes, pairs * sizeof(int32_t));
  if (has_bias_) bias_ = Append(&bytes, outputs * sizeof(float));
  buffer_ = AlignedBuffer<uint8_t>(bytes);
  std::memcpy(buffer_.data(), layer.codes, outputs * static_cast<size_t>(inputs_));
  std::memcpy(buffer_.data() + scale_, layer.scale, pairs * sizeof(float));
  if (has_base_) std::memcpy(buffer_.data() + base_, layer.base, pairs * sizeof(int32_t));
  if (has_bias_) std::memcpy(buffer_.data() + bias_, layer.bias, outputs * sizeof(float));
}

void PackedLinearDynamic::PackTiles(const DynamicLinear& layer) {
  const kernels::TileShape& tile = set_->u8s8;
  const int64_t k = GroupInputs(), nr = tile.nr;
  panels_ = (outputs_ + nr - 1) / nr;
  group_bytes_ = static_cast<size_t>((k + tile.kr - 1) / tile.kr * tile.kr * nr);
  const size_t lines = static_cast<size_t>(panels_ * groups_), line_bytes = static_cast<size_t>(nr) * 4;
  size_t bytes = 0;
  Append(&bytes, lines * group_bytes_);
  scale_ = Append(&bytes, lines * line_bytes);
  code_sum_ = Append(&bytes, lines * line_bytes);
  if (has_base_) base_ = Append(&bytes, lines * line_bytes);
  if (has_bias_) bias_ = Append(&bytes, static_cast<size_t>(panels_) * line_bytes);
  init_ = Append(&bytes, line_bytes);
  buffer_ = AlignedBuffer<uint8_t>(bytes);
  uint8_t* memory = buffer_.data();
  for (int64_t o = 0; o < outputs_; ++o) {
    const int64_t panel = o / nr, column = o % nr;
    if (has_bias_) At<float>(memory, bias_)[o] = layer.bias[o];
    for (int64_t g = 0; g < groups_; ++g) {
      const int64_t to = (panel * groups_ + g) * nr + column, from = o * groups_ + g;
      uint32_t sum = 0;
      for (int64_t i = 0; i < k; ++i) sum += static_cast<uint32_t>(layer.codes[o * inputs_ + g * k + i]);
      At<float>(memory, scale_)[to] = layer.scale[from];
      At<int32_t>(memory, code_sum_)[to] = static_cast<int32_t>(sum);
      if (has_base_) At<int32_t>(memory, base_)[to] = layer.base[from];
    }
  }
  for (int64_t panel = 0; panel < panels_; ++panel) {
    const int64_t first = panel * nr, n = std::min(nr, outputs_ - first);
    int8_t* to = At<int8_t>(memory, static_cast<size_t>(panel * groups_) * group_bytes_);
    PackPanel(tile, groups_, k, layer.codes + first * inputs_, n, to);
  }
}

Affine PackedLinearDynamic::QuantizeRow(const DynamicRun& run, int64_t row, uint8_t* codes) const {
  const float* x = run.x + row * inputs_;
  const size_t n = static_cast<size_t>(inputs_);
  Affine parameters;
  if (run.parameters != nullptr) {
    parameters = *run.parameters;
  } else {
    float lo, hi;
    set_->range(x, n, &lo, &hi);
    parameters = kernels::reference::RowParameters(quantizer_, lo, hi);
  }
  set_->quantize(x, codes, n, kernels::reference::RowCodes(quantizer_, parameters));
  return parameters;
}

Work PackedLinearDynamic::OutputWork(int64_t rows) const {
  Work work;
  work.rows = rows;
  work.panels = panels_;
  work.macs = std::max<int64_t>(inputs_ * outputs_ / panels_, 1);
  work.panel_bytes = static_cast<int64_t>(bytes()) / panels_;
  work.row_bytes = inputs_ / 4;  // floats, quantized by every thread that needs them: in order, so cheaper than what products fetch
  return work;
}

void PackedLinearDynamic::Run(const DynamicRun& run, const ConvPart& part, void* scratch) const noexcept {
  if (part.panel_begin >= part.panel_end) return;
  uint8_t* memory = static_cast<uint8_t*>(scratch);
  if (set_->u8s8.mr == 0) return RunReference(run, part, memory + scratch_.codes);
  const int64_t rows = part.row_end - part.row_begin, blocks = (rows + block_rows_ - 1) / block_rows_;
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t row = part.row_begin + PieceBegin(rows, blocks, b);
    RunRows(run, part, row, part.row_begin + PieceBegin(rows, blocks, b + 1) - row, memory);
  }
}

void PackedLinearDynamic::RunReference(const DynamicRun& run, const ConvPart& part, uint8_t* codes) const {
  const uint8_t* memory = buffer_.data();
  const DynamicLinear layer = {inputs_,
                               outputs_,
                               groups_,
                               At<int8_t>(memory, 0),
                               step_,
                               At<float>(memory, scale_),
                               has_base_ ? At<int32_t>(memory, base_) : nullptr,
                               has_bias_ ? At<float>(memory, bias_) : nullptr};
  for (int64_t row = part.row_begin; row < part.row_end; ++row) {
    const Affine parameters = QuantizeRow(run, row, codes);
    kernels::reference::LinearDynamicRow(layer, codes, parameters, run.output, run.y, static_cast<size_t>(row * outputs_));
  }
}

void PackedLinearDynamic::RunRows(const DynamicRun& run, const ConvPart& part, int64_t row, int64_t count, uint8_t* scratch) const {
  const int64_t k = GroupInputs(), row_bytes = narrow_ ? static_cast<int64_t>(narrow_->RowBytes()) : inputs_;
  uint8_t* codes = scratch + scratch_.codes;
  float* scale = At<float>(scratch, scratch_.scale);
  int32_t* shift = At<int32_t>(scratch, scratch_.shift);
  int32_t* boxes = At<int32_t>(scratch, scratch_.boxes);
  for (int64_t i = 0; i < count; ++i) {
    uint8_t* q = codes + i * row_bytes;
    const Affine parameters = QuantizeRow(run, row + i, q);
    scale[i] = parameters.scale;
    shift[i] = set_->u8s8_offset - parameters.zero_point;
    if (narrow_) narrow_->ArrangeRow(q);
    for (int64_t g = 0; has_base_ && g < groups_; ++g) {
      // Fits where a channel has a base other than 0: the bound says so. Elsewhere it may wrap, and is multiplied by 0.
      uint32_t sum = static_cast<uint32_t>(k) * static_cast<uint32_t>(-parameters.zero_point);
      for (int64_t j = 0; j < k; ++j) sum += q[g * k + j];
      boxes[g * block_rows_ + i] = static_cast<int32_t>(sum);
    }
  }
  const kernels::TileScope scope(*set_);
  if (!narrow_) return RunTiles(run, part, row, count, scratch);
  void* y = static_cast<uint8_t*>(run.y) + row * outputs_ * (run.output.f32 ? 4 : 1);
  narrow_->Run({codes, count, scale, shift, run.output, y}, part.panel_begin, part.panel_end, block_rows_, scratch + scratch_.narrow);
}

void PackedLinearDynamic::RunTiles(const DynamicRun& run, const ConvPart& part, int64_t row, int64_t count, uint8_t* scratch) const {
  const int64_t k = GroupInputs(), nr = set_->u8s8.nr, mr = set_->u8s8.mr;
  const uint8_t* codes = scratch + scratch_.codes;
  const float* scale = At<float>(scratch, scratch_.scale);
  const int32_t* shift = At<int32_t>(scratch, scratch_.shift);
  const int32_t* boxes = At<int32_t>(scratch, scratch_.boxes);
  const uint8_t** pointers = At<const uint8_t*>(scratch, scratch_.pointers);
  const uint8_t* packed = buffer_.data();
  kernels::DynamicRows rows = {};
  rows.partial = groups_ > 1 ? At<float>(scratch, scratch_.partial) : nullptr;
  kernels::TileU8S8 t = {};
  t.a = pointers;
  t.taps = 1;
  t.k = static_cast<uint32_t>(k);
  t.init = At<int32_t>(packed, init_);
  t.step = step_;
  t.output = run.output;
  t.out_stride = static_cast<size_t>(outputs_);
  t.rows = &rows;
  const int64_t tiles = (count + mr - 1) / mr;
  for (int64_t panel = part.panel_begin; panel < part.panel_end; ++panel) {
    const int64_t first = panel * nr;
    t.n = static_cast<uint32_t>(std::min(nr, outputs_ - first));
    t.bias = has_bias_ ? At<float>(packed, bias_) + first : nullptr;
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int64_t at = PieceBegin(count, tiles, tile), m = PieceBegin(count, tiles, tile + 1) - at;
      rows.scale = scale + at;
      rows.shift = shift + at;
      t.out = static_cast<uint8_t*>(run.y) + ((row + at) * outputs_ + first) * (run.output.f32 ? 4 : 1);
      for (int64_t g = 0; g < groups_; ++g) {
        const int64_t line = panel * groups_ + g;
        for (int64_t i = 0; i < m; ++i) pointers[i] = codes + (at + i) * inputs_ + g * k;
        rows.first = g == 0;
        rows.last = g + 1 == groups_;
        rows.code_sum = At<int32_t>(packed, code_sum_) + line * nr;
        t.w = At<int8_t>(packed, static_cast<size_t>(line) * group_bytes_);
        t.scale = At<float>(packed, scale_) + line * nr;
        t.base = has_base_ ? At<int32_t>(packed, base_) + line * nr : nullptr;
        t.box = has_base_ ? boxes + g * block_rows_ + at : nullptr;
        set_->u8s8_tile[m - 1](t);
      }
    }
  }
}

}  // namespace pqi::pack
