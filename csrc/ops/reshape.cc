// reshape: the same elements under another shape. A symbol in the target stands for a dimension of the input with that symbol, or for the
// symbol's number where the input has none; a size that is computed from symbols stands for its number.
#include <algorithm>
#include <cstring>

#include "base/text.h"
#include "ops/families.h"
#include "ops/schema.h"

namespace pqi::ops {
namespace {

Status Check(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckMovement(view));
  AttrReader attrs(view);
  int unknown = 0;
  for (const DimOrName& entry : attrs.List("shape")) {
    if (const uint64_t* v = std::get_if<uint64_t>(&entry)) {
      if (*v < 1 || *v > uint64_t{kMaxDim}) attrs.Fail("a number in 'shape' must be in [1, 2^31 - 1], got " + std::to_string(*v));
      continue;
    }
    const std::string& name = std::get<std::string>(entry);
    if (name == "?") {
      if (++unknown == 2) attrs.Fail("'shape' may hold one \"?\"");
    } else if (!IndexOfName(view.graph, name)) {
      attrs.Fail("'shape' names the unknown size " + Quoted(name));
    }
  }
  return attrs.Finish();
}

// The product of fixed dimensions, and how many others there are.
struct Extent {
  int64_t fixed = 1;
  int open = 0;
  bool too_large = false;

  void Multiply(const Dim& d) {
    if (!d.fixed()) {
      ++open;
    } else if (__builtin_mul_overflow(fixed, d.value, &fixed)) {
      too_large = true;
    }
  }
};

Status Infer(const NodeView& view, const std::vector<Shape>& inputs, std::vector<Shape>* outputs) {
  // Each symbol of the target takes the place of one dimension of the input, whatever its size is in this call, so that a batch of 0 works.
  Shape rest = inputs[0];
  const bool symbolic = std::any_of(rest.begin(), rest.end(), [](const Dim& d) { return !d.fixed(); });
  Shape stored = symbolic ? rest : view.input(0).shape;
  Shape out;
  Extent target;
  int unknown = -1;
  const auto& list = std::get<std::vector<DimOrName>>(view.node.attrs.at("shape"));
  for (const DimOrName& entry : list) {
    if (const uint64_t* v = std::get_if<uint64_t>(&entry)) {
      out.push_back(Dim::Fixed(static_cast<int64_t>(*v)));
      target.Multiply(out.back());
      continue;
    }
    const std::string& name = std::get<std::string>(entry);
    if (name == "?") {
      unknown = static_cast<int>(out.size());
      out.push_back(Dim::Derived());
      continue;
    }
    const size_t index = *IndexOfName(view.graph, name);
    const auto at = std::find(stored.begin(), stored.end(), Dim::Symbol(static_cast<int64_t>(index)));
    if (at == stored.end()) {  // it is computed, was merged with another dimension, or is another input's
      out.push_back(view.DimOfIndex(index));
      target.Multiply(out.back());
      continue;
    }
    out.push_back(rest[static_cast<size_t>(at - stored.begin())]);
    rest.erase(rest.begin() + (at - stored.begin()));
    stored.erase(at);
  }
  Extent source;
  for (const Dim& d : rest) source.Multiply(d);
  const Status mismatch = NodeError(view, "cannot reshape " + ShapeText(view.graph, inputs[0]) + " to " + ShapeText(view.graph, out));
  if (source.too_large || target.too_large) return mismatch;
  if (source.open == 0 && target.open == 0) {
    if (unknown < 0 && source.fixed != target.fixed) return mismatch;
    if (unknown >= 0) {
      if (target.fixed == 0 || source.fixed % target.fixed != 0 || source.fixed / target.fixed > kMaxDim) return mismatch;
      out[static_cast<size_t>(unknown)] = Dim::Fixed(source.fixed / target.fixed);
    }
  } else if (source.open == 1 && target.open == 0 && unknown >= 0 && source.fixed == target.fixed) {
    out[static_cast<size_t>(unknown)] = *std::find_if(rest.begin(), rest.end(), [](const Dim& d) { return !d.fixed(); });
  }
  outputs->assign(1, out);
  return {};
}

class ReshapeStep : public Step {
 public:
  explicit ReshapeStep(const NodeView& view) : element_size_(DTypeSize(view.output(0).dtype)) {
    info_ = {"copy", "the elements keep their order", 0};
  }
  Joint joint() const override {
    Joint joint;
    joint.whole = true;
    joint.inputs = 1;
    return joint;
  }

  void ExpectInPlace(uint64_t inputs) override {
    if (inputs != 0) info_ = {"in place", "the node before it writes into its output", 0};
  }

  void Run(const RunArgs& args) const noexcept override {
    if (args.out.data == args.in[0].data) return;
    std::memcpy(args.out.data, args.in[0].data, static_cast<size_t>(args.out.count()) * element_size_);
  }

 private:
  size_t element_size_;
};

}  // namespace

const Op kReshape = {{"reshape", Check, Infer, nullptr}, PrepareStep<ReshapeStep>, nullptr};

}  // namespace pqi::ops
