#include "linear/dynamic.h"

#include <algorithm>

#include "linear/narrow_run.h"
#include "pack/arrange.h"

namespace pqi::linear {

using conv::ConvPart;
using kernels::Affine;
using kernels::reference::DynamicLinear;
using pack::At;
using pack::PieceBegin;

namespace {

// Codes of a block of rows stay in L2 beside a panel of weights.
constexpr int64_t kBlockBytes = int64_t{1} << 18, kBlockRows = 240;
// A packed panel is small, and unpacked once for each block.
constexpr int64_t kNarrowBlockBytes = int64_t{1} << 19;

}  // namespace

PackedLinearDynamic::Panels PackedLinearDynamic::Pack(const kernels::KernelSet& set, const DynamicLinear& layer) {
  if (pack::NarrowPanels::Bits(set, layer) != 0) return Panels(std::in_place_type<pack::NarrowPanels>, set, layer);
  return Panels(std::in_place_type<pack::DynamicPanels>, set, layer);
}

PackedLinearDynamic::PackedLinearDynamic(const kernels::KernelSet& set, const DynamicLinear& layer, const kernels::RowQuantizer& quantizer)
    : set_(&set),
      quantizer_(quantizer),
      inputs_(layer.inputs),
      outputs_(layer.outputs),
      groups_(layer.groups),
      step_(layer.step),
      has_base_(layer.base != nullptr),
      panels_(Pack(set, layer)) {
  LayOutScratch();
}

void PackedLinearDynamic::LayOutScratch() {
  using pack::Append;
  size_t* bytes = &scratch_.bytes;
  const int64_t mr = narrow() != nullptr ? std::max(set_->narrow.unpacked_mr, set_->u8s8.mr) : set_->u8s8.mr;
  const int64_t row_bytes = narrow() != nullptr ? static_cast<int64_t>(narrow()->RowBytes()) : inputs_;
  const int64_t block_bytes = narrow() != nullptr ? kNarrowBlockBytes : kBlockBytes;
  if (mr > 0) block_rows_ = std::max(std::min(kBlockRows, block_bytes / row_bytes) / mr * mr, mr);
  const int64_t spare = narrow() != nullptr ? narrow()->SpareRows() : 0;
  const size_t rows = static_cast<size_t>(block_rows_);
  scratch_.codes = Append(bytes, static_cast<size_t>((block_rows_ + spare) * row_bytes));
  scratch_.scale = Append(bytes, rows * sizeof(float));
  scratch_.shift = Append(bytes, rows * sizeof(int32_t));
  if (narrow() != nullptr) {
    scratch_.narrow = Append(bytes, NarrowScratchBytes(*narrow(), block_rows_));
    return;
  }
  if (has_base_) scratch_.boxes = Append(bytes, rows * static_cast<size_t>(groups_) * sizeof(int32_t));
  scratch_.pointers = Append(bytes, static_cast<size_t>(mr) * sizeof(const uint8_t*));
  if (groups_ > 1) scratch_.partial = Append(bytes, static_cast<size_t>(mr * set_->u8s8.nr) * sizeof(float));
}

int64_t PackedLinearDynamic::panels() const { return narrow() != nullptr ? narrow()->units() : tiles()->panels(); }

size_t PackedLinearDynamic::bytes() const { return narrow() != nullptr ? narrow()->bytes() : tiles()->bytes(); }

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

conv::Work PackedLinearDynamic::OutputWork(int64_t rows) const {
  conv::Work work;
  work.rows = rows;
  work.panels = panels();
  work.macs = std::max<int64_t>(inputs_ * outputs_ / work.panels, 1);
  work.panel_bytes = static_cast<int64_t>(bytes()) / work.panels;
  // Rows are floats, which every thread that needs them quantizes. It reads them in order, which costs less than what products fetch.
  work.row_bytes = inputs_ / 4;
  return work;
}

void PackedLinearDynamic::Run(const DynamicRun& run, const ConvPart& part, void* scratch) const noexcept {
  if (part.panel_begin >= part.panel_end) return;
  uint8_t* memory = static_cast<uint8_t*>(scratch);
  if (set_->u8s8.mr == 0) return RunReference(run, part, memory + scratch_.codes);
  const int64_t rows = part.row_end - part.row_begin, blocks = pack::CeilDiv(rows, block_rows_);
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t row = part.row_begin + PieceBegin(rows, blocks, b);
    RunRows(run, part, row, part.row_begin + PieceBegin(rows, blocks, b + 1) - row, memory);
  }
}

void PackedLinearDynamic::RunReference(const DynamicRun& run, const ConvPart& part, uint8_t* codes) const {
  const pack::DynamicPanels& p = *tiles();
  const DynamicLinear layer = {inputs_, outputs_, groups_, p.Codes(0, 0), step_, p.Scale(0, 0), p.Base(0, 0), p.Bias(0)};
  for (int64_t row = part.row_begin; row < part.row_end; ++row) {
    const Affine parameters = QuantizeRow(run, row, codes);
    kernels::reference::LinearDynamicRow(layer, codes, parameters, run.output, run.y, static_cast<size_t>(row * outputs_));
  }
}

void PackedLinearDynamic::RunRows(const DynamicRun& run, const ConvPart& part, int64_t row, int64_t count, uint8_t* scratch) const {
  const pack::NarrowPanels* packed = narrow();
  const int64_t k = GroupInputs(), row_bytes = packed != nullptr ? static_cast<int64_t>(packed->RowBytes()) : inputs_;
  uint8_t* codes = scratch + scratch_.codes;
  float* scale = At<float>(scratch, scratch_.scale);
  int32_t* shift = At<int32_t>(scratch, scratch_.shift);
  int32_t* boxes = At<int32_t>(scratch, scratch_.boxes);
  for (int64_t i = 0; i < count; ++i) {
    uint8_t* q = codes + i * row_bytes;
    const Affine parameters = QuantizeRow(run, row + i, q);
    scale[i] = parameters.scale;
    shift[i] = set_->u8s8_offset - parameters.zero_point;
    if (packed != nullptr) packed->ArrangeRow(q);
    for (int64_t g = 0; has_base_ && g < groups_; ++g) {
      // The sum fits where a channel has a base other than 0: the bound says so. Elsewhere it may wrap, and is multiplied by 0.
      uint32_t sum = static_cast<uint32_t>(k) * static_cast<uint32_t>(-parameters.zero_point);
      for (int64_t j = 0; j < k; ++j) sum += q[g * k + j];
      boxes[g * block_rows_ + i] = static_cast<int32_t>(sum);
    }
  }
  const kernels::TileScope scope(*set_);
  if (packed == nullptr) return RunTiles(run, part, row, count, scratch);
  void* y = static_cast<uint8_t*>(run.y) + row * outputs_ * (run.output.f32 ? 4 : 1);
  RunNarrow(*packed, {codes, count, scale, shift, run.output, y}, part.panel_begin, part.panel_end, block_rows_, scratch + scratch_.narrow);
}

void PackedLinearDynamic::RunTiles(const DynamicRun& run, const ConvPart& part, int64_t row, int64_t count, uint8_t* scratch) const {
  const pack::DynamicPanels& p = *tiles();
  const int64_t k = GroupInputs(), nr = set_->u8s8.nr, mr = set_->u8s8.mr;
  const uint8_t* codes = scratch + scratch_.codes;
  const float* scale = At<float>(scratch, scratch_.scale);
  const int32_t* shift = At<int32_t>(scratch, scratch_.shift);
  const int32_t* boxes = At<int32_t>(scratch, scratch_.boxes);
  const uint8_t** pointers = At<const uint8_t*>(scratch, scratch_.pointers);
  kernels::DynamicRows rows = {};
  rows.partial = groups_ > 1 ? At<float>(scratch, scratch_.partial) : nullptr;
  kernels::TileU8S8 t = {};
  t.a = pointers;
  t.taps = 1;
  t.k = static_cast<uint32_t>(k);
  t.init = p.ZeroStart();
  t.step = step_;
  t.output = run.output;
  t.out_stride = static_cast<size_t>(outputs_);
  t.rows = &rows;
  const int64_t tiles = pack::CeilDiv(count, mr);
  for (int64_t panel = part.panel_begin; panel < part.panel_end; ++panel) {
    const int64_t first = panel * nr;
    t.n = static_cast<uint32_t>(std::min(nr, outputs_ - first));
    t.bias = p.Bias(panel);
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int64_t at = PieceBegin(count, tiles, tile), m = PieceBegin(count, tiles, tile + 1) - at;
      rows.scale = scale + at;
      rows.shift = shift + at;
      t.out = static_cast<uint8_t*>(run.y) + ((row + at) * outputs_ + first) * (run.output.f32 ? 4 : 1);
      for (int64_t g = 0; g < groups_; ++g) {
        for (int64_t i = 0; i < m; ++i) pointers[i] = codes + (at + i) * inputs_ + g * k;
        rows.first = g == 0;
        rows.last = g + 1 == groups_;
        rows.code_sum = p.CodeSum(panel, g);
        t.w = p.Codes(panel, g);
        t.scale = p.Scale(panel, g);
        t.base = p.Base(panel, g);
        t.box = has_base_ ? boxes + g * block_rows_ + at : nullptr;
        set_->u8s8_tile[m - 1](t);
      }
    }
  }
}

}  // namespace pqi::linear
