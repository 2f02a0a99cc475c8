// transpose: any permutation of the axes.
#include <array>

#include "ops/families.h"
#include "ops/schema.h"
#include "ops/step_util.h"
#include "ops/walk.h"

namespace pqi::ops {
namespace {

Status Check(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckMovement(view));
  AttrReader attrs(view);
  const auto list = attrs.List("perm");
  uint32_t seen = 0;
  for (const DimOrName& entry : list) {
    const uint64_t* axis = std::get_if<uint64_t>(&entry);
    if (axis && *axis < list.size()) seen |= 1u << *axis;
  }
  if (seen != (1u << list.size()) - 1) attrs.Fail("attribute 'perm' must be a permutation of the axes");
  return attrs.Finish();
}

std::vector<size_t> Permutation(const NodeView& view) {
  std::vector<size_t> perm;
  for (const DimOrName& entry : std::get<std::vector<DimOrName>>(view.node.attrs.at("perm"))) {
    perm.push_back(static_cast<size_t>(std::get<uint64_t>(entry)));
  }
  return perm;
}

Status Infer(const NodeView& view, const std::vector<Shape>& inputs, std::vector<Shape>* outputs) {
  const std::vector<size_t> perm = Permutation(view);
  PQI_RETURN_IF_ERROR(CheckRank(view, inputs, 0, perm.size()));
  Shape out;
  for (size_t axis : perm) out.push_back(inputs[0][axis]);
  outputs->assign(1, out);
  return {};
}

class TransposeStep : public Step {
 public:
  explicit TransposeStep(const NodeView& view) : perm_(Permutation(view)), element_size_(DTypeSize(view.output(0).dtype)) {
    info_ = {"copy", "data movement", 0};
  }

  void Run(const RunArgs& args) const noexcept override {
    const Walk walk = Bind(*args.in[0].shape);
    ByElementSize(args, element_size_, [&](const auto* x, auto* y) { CopyAlong(walk, x, y, args.out.count(), args.pool); });
  }

 private:
  Walk Bind(const ConcreteShape& in) const {
    std::array<int64_t, kMaxRank> distance{};
    int64_t elements = 1;
    for (size_t d = in.size(); d-- > 0; elements *= in[d]) distance[d] = elements;
    Walk walk;
    for (size_t axis : perm_) walk.Add(in[axis], distance[axis]);
    if (perm_.empty()) walk.Add(1, 1);
    return walk;
  }

  std::vector<size_t> perm_;
  size_t element_size_;
};

}  // namespace

const Op kTranspose = {{"transpose", Check, Infer, nullptr}, PrepareStep<TransposeStep>, nullptr};

}  // namespace pqi::ops
