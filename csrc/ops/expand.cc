// expand: dimensions of 1 repeated. A second input, which older files have, says nothing that names do not.
#include <algorithm>

#include "base/text.h"
#include "ops/families.h"
#include "ops/schema.h"
#include "ops/step_util.h"
#include "ops/walk.h"

namespace pqi::ops {
namespace {

Status Check(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckCounts(view, 1, 2));
  PQI_RETURN_IF_ERROR(CheckConstantKeys(view, {}));
  PQI_RETURN_IF_ERROR(CheckSameType(view));
  AttrReader attrs(view);
  for (const DimOrName& entry : attrs.List("shape")) {
    if (const uint64_t* v = std::get_if<uint64_t>(&entry)) {
      if (*v > uint64_t{kMaxDim}) attrs.Fail("a number in 'shape' must be in [0, 2^31 - 1], got " + std::to_string(*v));
    } else if (!IndexOfName(view.graph, std::get<std::string>(entry))) {
      attrs.Fail("'shape' names the unknown size " + Quoted(std::get<std::string>(entry)));
    }
  }
  return attrs.Finish();
}

Status Infer(const NodeView& view, const std::vector<Shape>& inputs, std::vector<Shape>* outputs) {
  const auto& list = std::get<std::vector<DimOrName>>(view.node.attrs.at("shape"));
  PQI_RETURN_IF_ERROR(CheckRank(view, inputs, 0, list.size()));
  Shape out = inputs[0];
  for (size_t i = 0; i < list.size(); ++i) {
    Dim target;
    if (const uint64_t* v = std::get_if<uint64_t>(&list[i])) {
      if (*v == 0) continue;  // the dimension stays as it is
      target = Dim::Fixed(static_cast<int64_t>(*v));
    } else {
      target = view.DimOfIndex(*IndexOfName(view.graph, std::get<std::string>(list[i])));
    }
    if (out[i] != Dim::Fixed(1) && out[i] != target) {
      return NodeError(view, "dimension " + std::to_string(i) + " of " + ShapeText(view.graph, inputs[0]) + " must be 1 to be repeated");
    }
    out[i] = target;
  }
  outputs->assign(1, out);
  return {};
}

class ExpandStep : public Step {
 public:
  explicit ExpandStep(const NodeView& view) : element_size_(DTypeSize(view.output(0).dtype)) { info_ = {"copy", "data movement", 0}; }

  void Run(const RunArgs& args) const noexcept override {
    const Walk walk = BroadcastWalk(*args.in[0].shape, *args.out.shape);
    ByElementSize(args, element_size_, [&](const auto* x, auto* y) { CopyAlong(walk, x, y, args.out.count(), args.pool); });
  }

 private:
  size_t element_size_;
};

}  // namespace

const Op kExpand = {{"expand", Check, Infer, nullptr}, PrepareStep<ExpandStep>, nullptr};

}  // namespace pqi::ops
