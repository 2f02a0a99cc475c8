// embedding: one row of a table for each index.
#include <cstring>
#include <vector>

#include "base/text.h"
#include "ops/families.h"
#include "ops/schema.h"
#include "ops/step_util.h"
#include "ops/weighted.h"

namespace pqi::ops {
namespace {

Status Check(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckCounts(view, 1, 1));
  if (view.output(0).dtype == DType::kI32) return NodeError(view, "output " + Quoted(view.output(0).name) + " must be f32 or u8, got i32");
  PQI_RETURN_IF_ERROR(CheckDType(view, view.input(0), "input", DType::kI32));
  PQI_RETURN_IF_ERROR(CheckConstantKeys(view, {"weight"}, {"scale", "base"}));
  AttrReader attrs(view);
  const int64_t step = attrs.Uint("step", 1, 2);
  PQI_RETURN_IF_ERROR(attrs.Finish());
  const Constant& weight = *view.constant("weight");
  const bool coded = weight.type == ConstType::kCode;
  if (!coded && weight.type != ConstType::kF32) return NodeError(view, "constant 'weight' must be code or f32");
  if (weight.shape.size() != 2) return NodeError(view, "constant 'weight' must have 2 dimensions");
  if (coded != view.has_constant("scale")) return NodeError(view, "constant 'scale' goes with code weights, and only with them");
  if (!coded && (view.has_constant("base") || step != 1)) return NodeError(view, "float weights have no 'base', and 'step' 1");
  if (coded) PQI_RETURN_IF_ERROR(CheckConstant(view, "scale", ConstType::kF32, {weight.shape[0]}));
  if (view.has_constant("base")) PQI_RETURN_IF_ERROR(CheckConstant(view, "base", ConstType::kI32, {weight.shape[0]}));
  return {};
}

Status Infer(const NodeView& view, const std::vector<Shape>& inputs, std::vector<Shape>* outputs) {
  Shape out = inputs[0];
  if (out.size() >= kMaxRank) return NodeError(view, "the input must have at most 7 dimensions, got " + ShapeText(view.graph, inputs[0]));
  out.push_back(Dim::Fixed(view.constant("weight")->shape[1]));
  outputs->assign(1, out);
  return {};
}

// Copies rows that lie ready as the output has them: floats, or codes quantized when the model is prepared.
class CopyStep : public Step {
 public:
  CopyStep(const NodeView& view, Span<const uint8_t> stored, std::vector<uint8_t> own)
      : own_(std::move(own)), table_(own_.empty() ? stored.data() : own_.data()), rows_(view.constant("weight")->shape[0]) {
    row_bytes_ = static_cast<size_t>(view.constant("weight")->shape[1]) * DTypeSize(view.output(0).dtype);
    info_ = {"lookup", "rows are copied", own_.size()};
  }
  std::optional<Lookup> lookup() const override { return Lookup{0, rows_, 0}; }
  void Run(const RunArgs& args) const noexcept override {
    const int64_t grain = kGrain / static_cast<int64_t>(row_bytes_) + 1;
    ParallelFor(args.pool, args.in[0].count(), grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const size_t row = static_cast<size_t>(args.in[0].i32()[i]);
        std::memcpy(args.out.mutable_u8() + static_cast<size_t>(i) * row_bytes_, table_ + row * row_bytes_, row_bytes_);
      }
    });
  }

 private:
  std::vector<uint8_t> own_;
  const uint8_t* table_;  // its bytes are those of `own_` or of the model's file
  int64_t rows_;
  size_t row_bytes_;
};

// Makes floats of rows of codes as they are read, so that the table stays small in memory.
class ExpandStep : public Step {
 public:
  ExpandStep(const NodeView& view, std::vector<int8_t> codes)
      : codes_(std::move(codes)),
        scale_(Elements<float>(view, "scale")),
        base_(Elements<int32_t>(view, "base")),
        columns_(view.constant("weight")->shape[1]),
        step_(static_cast<int64_t>(std::get<uint64_t>(view.node.attrs.at("step")))) {
    info_ = {"lookup", "rows of codes become floats", codes_.size()};
  }
  std::optional<Lookup> lookup() const override { return Lookup{0, static_cast<int64_t>(scale_.size()), 0}; }
  void Run(const RunArgs& args) const noexcept override {
    ParallelFor(args.pool, args.in[0].count(), kGrain / columns_ + 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const size_t row = static_cast<size_t>(args.in[0].i32()[i]);
        const int8_t* codes = codes_.data() + row * static_cast<size_t>(columns_);
        float* y = args.out.mutable_f32() + i * columns_;
        const int64_t base = base_.empty() ? 0 : base_[row];
        for (int64_t j = 0; j < columns_; ++j) y[j] = static_cast<float>(step_ * codes[j] + base) * scale_[row];
      }
    });
  }

 private:
  std::vector<int8_t> codes_;
  Span<const float> scale_;  // elements of the model's file, and so are those of `base_`
  Span<const int32_t> base_;
  int64_t columns_, step_;
};

Result<std::unique_ptr<Step>> Prepare(const PrepareContext& context) {
  const NodeView& view = context.view;
  const Constant& weight = *view.constant("weight");
  if (view.output(0).dtype == DType::kU8) {
    PQI_ASSIGN_OR_RETURN(const std::vector<float> floats, FloatWeights(view));
    std::vector<uint8_t> codes(floats.size());
    context.kernels.quantize(floats.data(), codes.data(), floats.size(), OutputOf(view));
    return std::unique_ptr<Step>(std::make_unique<CopyStep>(view, weight.bytes, std::move(codes)));
  }
  if (weight.type == ConstType::kF32) return std::unique_ptr<Step>(std::make_unique<CopyStep>(view, weight.bytes, std::vector<uint8_t>()));
  PQI_ASSIGN_OR_RETURN(std::vector<int8_t> codes, Codes(view));
  return std::unique_ptr<Step>(std::make_unique<ExpandStep>(view, std::move(codes)));
}

}  // namespace

const Op kEmbedding = {{"embedding", Check, Infer, ProveWeighted}, Prepare, nullptr};

}  // namespace pqi::ops
