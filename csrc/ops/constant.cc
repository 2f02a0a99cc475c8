// constant: a stored tensor as a value of the graph, for ops that take no constants (a class token in front of concat).
#include <cstring>

#include "ops/families.h"
#include "ops/schema.h"

namespace pqi::ops {
namespace {

Status Check(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckArity(view, 0, 0));
  PQI_RETURN_IF_ERROR(CheckDType(view, view.output(0), "output", DType::kF32));
  PQI_RETURN_IF_ERROR(CheckConstantKeys(view, {"value"}));
  PQI_RETURN_IF_ERROR(CheckConstant(view, "value", ConstType::kF32, {}));
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
  explicit ConstantStep(const NodeView& view) : value_(Elements<float>(view, "value")) { info_ = {"copy", "a stored tensor", 0}; }
  void Run(const RunArgs& args) const noexcept override { std::memcpy(args.out.data, value_.data(), value_.size() * sizeof(float)); }

 private:
  Span<const float> value_;  // elements of the model's file
};

}  // namespace

const Op kConstant = {{"constant", Check, Infer, nullptr}, PrepareStep<ConstantStep>, nullptr};

}  // namespace pqi::ops
