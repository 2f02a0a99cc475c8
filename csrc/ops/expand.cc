// expand: dimensions of 1 repeated. A symbol in the target stands for a dimension of the second input, which gives nothing but its shape.

#include "base/text.h"
#include "ops/families.h"
#include "ops/schema.h"
#include "ops/step_util.h"
#include "ops/walk.h"

namespace pqi::ops {
namespace {

Status Check(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckMovement(view, 2));
  AttrReader attrs(view);
  for (const DimOrName& entry : attrs.List("shape")) {
    if (const uint64_t* v = std::get_if<uint64_t>(&entry)) {
      if (*v > uint64_t{kMaxDim}) attrs.Fail("a number in 'shape' must be in [0, 2^31 - 1], got " + std::to_string(*v));
    } else if (view.node.inputs.size() == 1) {
      attrs.Fail("a symbol in 'shape' needs a second input");
    }
  }
  return attrs.Finish();
}

// Finds the dimension of the second input that is the symbol of this name.
Status Named(const NodeView& view, const std::vector<Shape>& inputs, const std::string& name, Dim* out) {
  const auto& symbols = view.graph.symbols;
  const Shape& stored = view.input(1).shape;
  for (size_t i = 0; i < stored.size(); ++i) {
    if (stored[i].kind != Dim::kSymbol || symbols[static_cast<size_t>(stored[i].value)] != name) continue;
    *out = inputs[1][i];
    return {};
  }
  return NodeError(view, "symbol " + Quoted(name) + " of 'shape' is not a dimension of the second input " + ShapeText(view.graph, stored));
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
      PQI_RETURN_IF_ERROR(Named(view, inputs, std::get<std::string>(list[i]), &target));
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
    const Walk walk = Bind(*args.in[0].shape, *args.out.shape);
    ByElementSize(args, element_size_, [&](const auto* x, auto* y) { CopyAlong(walk, x, y, args.out.count(), args.pool); });
  }

 private:
  // The walk over the input. Axes at the end that are not repeated become one.
  static Walk Bind(const ConcreteShape& in, const ConcreteShape& out) {
    size_t axes = out.size();
    int64_t block = 1;
    while (axes > 0 && in[axes - 1] == out[axes - 1]) block *= out[--axes];
    Walk walk;
    int64_t distance = block;
    for (size_t d = 0; d < axes; ++d) distance *= in[d];
    for (size_t d = 0; d < axes; ++d) {
      distance /= in[d];  // no dimension is 0: an empty output is not computed
      walk.Add(out[d], in[d] == 1 ? 0 : distance);
    }
    walk.Add(block, 1);
    return walk;
  }

  size_t element_size_;
};

}  // namespace

const Op kExpand = {{"expand", Check, Infer, nullptr}, PrepareStep<ExpandStep>, nullptr};

}  // namespace pqi::ops
