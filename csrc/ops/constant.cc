// constant: a stored tensor as a value of the graph, for ops that take no constants (a class token in front of concat).
#include <cstring>

#include "ops/families.h"
#include "ops/schema.h"

namespace pqi::ops {
namespace {

Status Check(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckCounts(view, 0, 0));
  const DType type = view.output(0).dtype;
  if (type == DType::kU8) return NodeError(view, "output must be f32 or i32, got u8");
  PQI_RETURN_IF_ERROR(CheckConstantKeys(view, {"value"}));
  PQI_RETURN_IF_ERROR(CheckConstant(view, "value", ConstTypeOf(type), {}));
  return AttrReader(view).Finish();
}

Status Infer(const NodeView& view, const std::vector<Shape>&, std::vector<Shape>* outputs) {
  Shape out;
  for (int64_t d : view.constant("value")->shape) out.push_back(Dim::Fixed(d));
  outputs->assign(1, out);
  return {};
}

class ConstantStep : public Step {
 public:
  explicit ConstantStep(const NodeView& view) : bytes_(view.constant("value")->bytes) { info_ = {"copy", "a stored tensor", 0}; }
  void Run(const RunArgs& args) const noexcept override { std::memcpy(args.out.data, bytes_.data(), bytes_.size()); }

 private:
  Span<const uint8_t> bytes_;  // elements of the model's file
};

}  // namespace

const Op kConstant = {{"constant", Check, Infer, nullptr}, PrepareStep<ConstantStep>, nullptr};

}  // namespace pqi::ops
