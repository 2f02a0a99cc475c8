// add: the sum of two tensors of one shape, codes or float in any mix.
#include "ops/families.h"
#include "ops/schema.h"
#include "ops/step_util.h"

namespace pqi::ops {
namespace {

Status Check(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckArity(view, 2, 2));
  PQI_RETURN_IF_ERROR(CheckConstantKeys(view, {}));
  AttrReader attrs(view);
  ReadActivation(&attrs);
  return attrs.Finish();
}

Status Infer(const NodeView& view, const std::vector<Shape>& inputs, std::vector<Shape>* outputs) {
  outputs->resize(1);
  return MergeShapes(view, inputs[0], inputs[1], "the inputs", &outputs->front());
}

class AddStep : public Step {
 public:
  AddStep(const NodeView& view, const kernels::KernelSet& set) : set_(set) {
    AttrReader attrs(view);
    output_ = OutputOf(view, ReadActivation(&attrs));
    for (size_t i = 0; i < 2; ++i) {
      is_u8_[i] = view.input(i).dtype == DType::kU8;
      affine_[i] = AffineOf(view.graph, view.input(i));
    }
    info_ = {ElementwiseName(set), "", 0};
  }

  void Run(const RunArgs& args) const noexcept override {
    ParallelFor(args.pool, args.out.count(), kGrain, [&](int64_t begin, int64_t end) {
      if (is_u8_[0] && is_u8_[1]) {
        set_.add_u8(args.in[0].u8() + begin, affine_[0], args.in[1].u8() + begin, affine_[1], static_cast<size_t>(end - begin), output_,
                    OutputAt(args.out.data, output_, begin));
      } else {
        AddFloat(args, begin, end);
      }
    });
  }

 private:
  static constexpr int64_t kChunk = 1024;

  // At least one operand is float; the other is dequantized piece by piece.
  void AddFloat(const RunArgs& args, int64_t begin, int64_t end) const {
    alignas(64) float expanded[kChunk];
    for (int64_t i = begin; i < end; i += kChunk) {
      const size_t n = static_cast<size_t>(end - i < kChunk ? end - i : kChunk);
      const float* operands[2];
      for (size_t k = 0; k < 2; ++k) {
        operands[k] = is_u8_[k] ? expanded : args.in[k].f32() + i;
        if (is_u8_[k]) set_.dequantize(args.in[k].u8() + i, expanded, n, affine_[k]);
      }
      set_.add_f32(operands[0], operands[1], n, output_, OutputAt(args.out.data, output_, i));
    }
  }

  const kernels::KernelSet& set_;
  kernels::Output output_;
  bool is_u8_[2] = {};
  kernels::Affine affine_[2];
};

}  // namespace

const Op kAdd = {{"add", Check, Infer, nullptr}, PrepareStep<AddStep>, nullptr};

}  // namespace pqi::ops
