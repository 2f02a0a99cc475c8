// concat: inputs behind each other along one axis. Codes of other parameters than the output's go through a table of 256 codes.
#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "conv/copy_few.h"
#include "kernels/reference/quantize.h"
#include "ops/families.h"
#include "ops/schema.h"
#include "ops/step_util.h"

namespace pqi::ops {
namespace {

Status Check(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckCounts(view, 1, kMaxInputs));
  PQI_RETURN_IF_ERROR(CheckConstantKeys(view, {}));
  for (size_t i = 0; i < view.node.inputs.size(); ++i) {
    PQI_RETURN_IF_ERROR(CheckDType(view, view.input(i), "input", view.output(0).dtype));
  }
  AttrReader attrs(view);
  attrs.Axis();
  return attrs.Finish();
}

Status Infer(const NodeView& view, const std::vector<Shape>& inputs, std::vector<Shape>* outputs) {
  AttrReader attrs(view);
  const size_t axis = attrs.Axis();
  Shape out;
  bool known = true;
  int64_t length = 0;
  for (size_t i = 0; i < inputs.size(); ++i) {
    PQI_RETURN_IF_ERROR(CheckAxis(view, inputs[i], axis));
    Shape others = inputs[i];
    known &= others[axis].fixed();
    length += others[axis].value;  // at most kMaxInputs * 2^31
    others[axis] = Dim::Fixed(1);
    const Shape before = i == 0 ? others : out;
    PQI_RETURN_IF_ERROR(MergeShapes(view, before, others, "inputs, but for the axis,", &out));
  }
  out[axis] = known ? Dim::Fixed(length) : Dim::Derived();
  outputs->assign(1, out);
  return {};
}

bool SameQuant(const Quant& a, const Quant& b) { return a.scale == b.scale && a.zero_point == b.zero_point; }

class ConcatStep : public Step {
 public:
  ConcatStep(const NodeView& view, const kernels::KernelSet& set) : set_(set), element_size_(DTypeSize(view.output(0).dtype)) {
    AttrReader attrs(view);
    axis_ = attrs.Axis();
    last_axis_ = axis_ + 1 == view.output(0).shape.size();
    tables_.resize(view.node.inputs.size());
    info_ = {"copy", "data movement", 0};
    if (element_size_ != 1) return;
    const kernels::Output output = OutputOf(view);
    const Quant& target = QuantOf(view.graph, view.output(0));
    for (size_t i = 0; i < tables_.size(); ++i) {
      const Quant& source = QuantOf(view.graph, view.input(i));
      // Equal parameters keep codes as they are; a code outside the output's range must still be clamped.
      if (SameQuant(source, target) && source.qmin >= target.qmin && source.qmax <= target.qmax) continue;
      tables_[i].resize(256);
      const kernels::Affine affine = AffineOf(source);
      for (size_t q = 0; q < 256; ++q) {
        const float x = kernels::reference::DequantizeValue(static_cast<uint8_t>(q), affine);
        tables_[i][q] = kernels::reference::QuantizeValue(x, output);
      }
      info_ = {"table", ElementwiseName(set), info_.weight_bytes + 256};
    }
  }

  // A row of the output is made of pieces of all inputs where the axis is the last one; else it lies in one input.
  bool SpacesRows() const override { return last_axis_; }

  Joint joint() const override {
    Joint joint;
    joint.axis = axis_;
    for (size_t i = 0; i < tables_.size(); ++i) {
      if (tables_[i].empty()) joint.inputs |= uint64_t{1} << i;
    }
    return joint;
  }

  void ExpectInPlace(uint64_t inputs) override {
    std::string list;
    size_t count = 0;
    for (size_t i = 0; i < tables_.size(); ++i) {
      if ((inputs >> i & 1) == 0) continue;
      list += (list.empty() ? "" : ", ") + std::to_string(i);
      ++count;
    }
    if (count == 0) return;
    if (count == tables_.size()) {
      info_.executed_as = "in place";
      info_.reason = "the nodes before it write into its output";
    } else {
      info_.reason += (count == 1 ? ", input " : ", inputs ") + list + " in place";
    }
  }

  void Run(const RunArgs& args) const noexcept override {
    const ConcreteShape& shape = *args.out.shape;
    int64_t outer = 1, inner = 1;
    for (size_t d = 0; d < axis_; ++d) outer *= shape[d];
    for (size_t d = axis_ + 1; d < shape.size(); ++d) inner *= shape[d];
    const int64_t row = last_axis_ ? args.out_stride : shape[axis_] * inner;
    int64_t first = 0;
    for (size_t i = 0; i < tables_.size(); ++i) {
      const int64_t piece = args.in[i].dim(axis_) * inner;
      const bool in_place = args.in[i].data == args.out.mutable_u8() + first * static_cast<int64_t>(element_size_);
      if (piece > 0 && !in_place) {
        // Inputs are copied one after the other: a single long piece (outer = 1) is then one copy, many short ones are shared among
        // threads.
        ParallelFor(args.pool, outer, kGrain / piece + 1, [&](int64_t begin, int64_t end) {
          if (!tables_[i].empty() && piece <= kBlock / 4) return Translate(args, i, piece, row, first, begin, end);
          for (int64_t r = begin; r < end; ++r) Copy(args, i, r * piece, r * row + first, static_cast<size_t>(piece));
        });
      }
      first += piece;
    }
  }

 private:
  static constexpr int64_t kBlock = 4096;  // bytes that stay in L1

  // Rows [begin, end) of short pieces: blocks of the input go through the table at once, and are then put in their places.
  void Translate(const RunArgs& args, size_t i, int64_t piece, int64_t row, int64_t first, int64_t begin, int64_t end) const {
    uint8_t block[kBlock];
    const int64_t most = kBlock / piece;
    for (int64_t r = begin; r < end; r += most) {
      const int64_t rows = std::min(most, end - r);
      set_.table(args.in[i].u8() + r * piece, block, static_cast<size_t>(rows * piece), tables_[i].data());
      for (int64_t k = 0; k < rows; ++k) conv::CopyRun(block + k * piece, piece, args.out.mutable_u8() + (r + k) * row + first);
    }
  }

  void Copy(const RunArgs& args, size_t i, int64_t from, int64_t to, size_t n) const {
    if (element_size_ == 4) {
      conv::CopyRun(args.in[i].f32() + from, static_cast<int64_t>(n), args.out.mutable_f32() + to);
    } else if (tables_[i].empty()) {
      conv::CopyRun(args.in[i].u8() + from, static_cast<int64_t>(n), args.out.mutable_u8() + to);
    } else {
      set_.table(args.in[i].u8() + from, args.out.mutable_u8() + to, n, tables_[i].data());
    }
  }

  const kernels::KernelSet& set_;
  size_t element_size_;
  size_t axis_ = 0;
  bool last_axis_ = false;
  std::vector<std::vector<uint8_t>> tables_;  // one per input, empty where codes are copied
};

}  // namespace

const Op kConcat = {{"concat", Check, Infer, nullptr}, PrepareStep<ConcatStep>, nullptr};

}  // namespace pqi::ops
