// clamp, affine and table: one input, one output of the same shape.
#include "kernels/reference/elementwise.h"

#include <algorithm>
#include <vector>

#include "ops/families.h"
#include "ops/schema.h"
#include "ops/step_util.h"

namespace pqi::ops {
namespace {

// ---- clamp

Status CheckClamp(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckFloats(view));
  PQI_RETURN_IF_ERROR(CheckConstantKeys(view, {}));
  AttrReader attrs(view);
  ReadClamp(&attrs);
  return attrs.Finish();
}

class ClampStep : public Step {
 public:
  ClampStep(const NodeView& view, const kernels::KernelSet& set) : set_(set) {
    AttrReader attrs(view);
    bounds_ = ReadClamp(&attrs);
    info_ = {ElementwiseName(set), "", 0};
  }
  void Run(const RunArgs& args) const noexcept override {
    ParallelFor(args.pool, args.out.count(), kGrain, [&](int64_t begin, int64_t end) {
      set_.clamp(args.in[0].f32() + begin, args.out.mutable_f32() + begin, static_cast<size_t>(end - begin), bounds_.lo, bounds_.hi);
    });
  }

 private:
  const kernels::KernelSet& set_;
  Bounds bounds_;
};

// ---- affine

Status CheckAffine(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckArity(view, 1, 1));
  PQI_RETURN_IF_ERROR(CheckConstantKeys(view, {"scale", "shift"}));
  PQI_RETURN_IF_ERROR(CheckVector(view, "scale"));
  PQI_RETURN_IF_ERROR(CheckConstant(view, "shift", ConstType::kF32, view.constant("scale")->shape));
  return AttrReader(view).Finish();
}

Status InferAffine(const NodeView& view, const std::vector<Shape>& inputs, std::vector<Shape>* outputs) {
  return InferChannels(view, inputs, view.constant("scale")->shape[0], outputs);
}

class AffineStep : public Step {
 public:
  AffineStep(const NodeView& view, const kernels::KernelSet& set)
      : set_(set),
        scale_(Elements<float>(view, "scale")),
        shift_(Elements<float>(view, "shift")),
        is_u8_(view.input(0).dtype == DType::kU8),
        affine_(AffineOf(view.graph, view.input(0))),
        output_(OutputOf(view)) {
    info_ = {ElementwiseName(set), "", 0};
  }
  void Run(const RunArgs& args) const noexcept override {
    const int64_t channels = static_cast<int64_t>(scale_.size());
    ParallelFor(args.pool, args.out.count() / channels, kGrain / channels + 1, [&](int64_t begin, int64_t end) {
      if (channels > kBlock) {
        for (int64_t row = begin; row < end; ++row) {
          for (int64_t c = 0; c < channels; c += kBlock) Compute(args, row * channels + c, 1, c, std::min(kBlock, channels - c));
        }
        return;
      }
      const int64_t most = kBlock / channels;
      for (int64_t row = begin; row < end; row += most) Compute(args, row * channels, std::min(most, end - row), 0, channels);
    });
  }

 private:
  static constexpr int64_t kBlock = 2048;  // floats that stay in L1 between the steps

  // `rows` rows of `count` channels from channel c on, which lie behind one another from element `at` on.
  void Compute(const RunArgs& args, int64_t at, int64_t rows, int64_t c, int64_t count) const {
    float block[kBlock];
    const size_t n = static_cast<size_t>(rows * count);
    const float* x = block;
    if (is_u8_) {
      set_.dequantize(args.in[0].u8() + at, block, n, affine_);
    } else {
      x = args.in[0].f32() + at;
    }
    float* y = output_.f32 ? args.out.mutable_f32() + at : block;
    set_.affine(x, y, static_cast<size_t>(rows), static_cast<size_t>(count), scale_.data() + c, shift_.data() + c);
    if (!output_.f32) set_.quantize(block, args.out.mutable_u8() + at, n, output_);
  }

  const kernels::KernelSet& set_;
  Span<const float> scale_, shift_;  // elements of the model's file
  bool is_u8_;
  kernels::Affine affine_;
  kernels::Output output_;
};

// ---- table

Status CheckTable(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckArity(view, 1, 1));
  PQI_RETURN_IF_ERROR(CheckDType(view, view.input(0), "input", DType::kU8));
  PQI_RETURN_IF_ERROR(CheckDType(view, view.output(0), "output", DType::kU8));
  PQI_RETURN_IF_ERROR(CheckConstantKeys(view, {"table"}));
  const std::vector<int64_t>& shape = view.constant("table")->shape;
  const bool per_channel = shape.size() == 2 && shape[0] >= 1 && shape[1] == 256;
  PQI_RETURN_IF_ERROR(CheckConstant(view, "table", ConstType::kU8, per_channel ? shape : std::vector<int64_t>{256}));
  return AttrReader(view).Finish();
}

// There is a table for each channel of the last axis, or one for all.
Status InferTable(const NodeView& view, const std::vector<Shape>& inputs, std::vector<Shape>* outputs) {
  const std::vector<int64_t>& shape = view.constant("table")->shape;
  return shape.size() == 1 ? InferSame(view, inputs, outputs) : InferChannels(view, inputs, shape[0], outputs);
}

Status ProveTable(const NodeView& view) {
  const Span<const uint8_t> table = Elements<uint8_t>(view, "table");
  const Quant &in = QuantOf(view.graph, view.input(0)), &out = QuantOf(view.graph, view.output(0));
  for (size_t i = 0; i < table.size(); ++i) {
    const int32_t q = static_cast<int32_t>(i % 256), entry = table[i];
    if (q >= in.qmin && q <= in.qmax && (entry < out.qmin || entry > out.qmax)) {
      return NodeError(view, "table entry " + std::to_string(i) + " is " + std::to_string(entry) + ", outside the output's range [" +
                                 std::to_string(out.qmin) + ", " + std::to_string(out.qmax) + "]");
    }
  }
  return {};
}

class TableStep : public Step {
 public:
  TableStep(const NodeView& view, const kernels::KernelSet& set) : set_(set), table_(Elements<uint8_t>(view, "table")) {
    info_ = {"table", ElementwiseName(set), table_.size()};
    channels_ = static_cast<int64_t>(table_.size() / 256);
  }
  // Every code is read before its place is written, so that the codes may be changed where they lie.
  Joint joint() const override {
    Joint joint;
    joint.whole = true;
    joint.inputs = 1;
    return joint;
  }

  void Run(const RunArgs& args) const noexcept override {
    if (channels_ > 1) {
      ParallelFor(args.pool, args.out.count() / channels_, kGrain / channels_ + 1, [&](int64_t begin, int64_t end) {
        const uint8_t* x = args.in[0].u8();
        uint8_t* y = args.out.mutable_u8();
        for (int64_t i = begin * channels_; i < end * channels_; i += channels_) {
          for (int64_t c = 0; c < channels_; ++c) y[i + c] = table_.data()[c * 256 + x[i + c]];
        }
      });
      return;
    }
    ParallelFor(args.pool, args.out.count(), kGrain, [&](int64_t begin, int64_t end) {
      set_.table(args.in[0].u8() + begin, args.out.mutable_u8() + begin, static_cast<size_t>(end - begin), table_.data());
    });
  }

 private:
  const kernels::KernelSet& set_;
  Span<const uint8_t> table_;  // elements of the model's file, 256 for each channel
  int64_t channels_ = 1;
};

}  // namespace

const Op kClamp = {{"clamp", CheckClamp, InferSame, nullptr}, PrepareStep<ClampStep>, nullptr};
const Op kAffine = {{"affine", CheckAffine, InferAffine, nullptr}, PrepareStep<AffineStep>, nullptr};
const Op kTable = {{"table", CheckTable, InferTable, ProveTable}, PrepareStep<TableStep>, nullptr};

}  // namespace pqi::ops
