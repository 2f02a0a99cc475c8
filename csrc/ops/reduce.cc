// reduce: mean, sum or largest element over any axes, integer or float input, code or float output.
#include "kernels/reference/reduce.h"

#include "ops/families.h"
#include "ops/parts.h"
#include "ops/schema.h"

namespace pqi::ops {
namespace {

using kernels::reference::ReduceFunction;
using kernels::reference::Reduction;

struct Attributes {
  ReduceFunction function = ReduceFunction::kMean;
  uint32_t axes = 0;  // bit i is set where axis i is reduced
  bool keepdim = false;

  bool reduces(size_t axis) const { return (axes >> axis & 1) != 0; }
};

Attributes Read(AttrReader* attrs) {
  Attributes a;
  a.function = static_cast<ReduceFunction>(attrs->Choice("function", {"mean", "sum", "amax"}));  // the order is that of the enumerators
  for (const DimOrName& entry : attrs->List("axes")) {
    const uint64_t* axis = std::get_if<uint64_t>(&entry);
    if (!axis || *axis >= 8 || a.axes >> *axis != 0) attrs->Fail("'axes' must be ascending numbers below 8");
    if (axis && *axis < 8) a.axes |= 1u << *axis;
  }
  if (a.axes == 0) attrs->Fail("'axes' must name an axis");
  a.keepdim = attrs->Flag("keepdim");
  return a;
}

Status Check(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckArity(view, 1, 1));
  PQI_RETURN_IF_ERROR(CheckConstantKeys(view, {}));
  AttrReader attrs(view);
  Read(&attrs);
  return attrs.Finish();
}

Status Infer(const NodeView& view, const std::vector<Shape>& inputs, std::vector<Shape>* outputs) {
  AttrReader attrs(view);
  const Attributes a = Read(&attrs);
  const Shape& in = inputs[0];
  const std::string shape = ShapeText(view.graph, in);
  if (a.axes >> in.size() != 0) return NodeError(view, "'axes' names an axis that " + shape + " does not have");
  Shape out;
  int64_t elements = 1;  // product of the reduced dimensions that are known
  for (size_t i = 0; i < in.size(); ++i) {
    if (!a.reduces(i)) {
      out.push_back(in[i]);
      continue;
    }
    if (in[i].fixed() && in[i].value < 1) return NodeError(view, "a reduced axis must have at least 1 element, got " + shape);
    if (in[i].fixed() && (elements > kMaxPoolPositions || __builtin_mul_overflow(elements, in[i].value, &elements))) {
      elements = INT64_MAX;
    }
    if (a.keepdim) out.push_back(Dim::Fixed(1));
  }
  // Sums of codes must fit int32.
  if (view.input(0).dtype == DType::kU8 && elements > kMaxPoolPositions) {
    return NodeError(view, "reduces more than 2^23 elements of " + shape + " to one");
  }
  outputs->assign(1, out);
  return {};
}

class ReduceStep : public Step {
 public:
  explicit ReduceStep(const NodeView& view) : is_u8_(view.input(0).dtype == DType::kU8), affine_(AffineOf(view.graph, view.input(0))) {
    AttrReader attrs(view);
    attributes_ = Read(&attrs);
    output_ = OutputOf(view);
    info_ = {"reference", "", 0};
  }

  void Run(const RunArgs& args) const noexcept override {
    const Reduction r = Bind(*args.in[0].shape);
    ForEachPart(args.pool, r.outputs(), r.elements(), [&](int64_t begin, int64_t end, size_t) {
      if (is_u8_) {
        kernels::reference::ReduceU8(r, args.in[0].u8(), affine_, output_, args.out.data, begin, end);
      } else {
        kernels::reference::ReduceF32(r, args.in[0].f32(), output_, args.out.data, begin, end);
      }
    });
  }

 private:
  Reduction Bind(const ConcreteShape& shape) const {
    Reduction r;
    r.function = attributes_.function;
    int64_t stride = 1;
    for (int64_t d : shape) stride *= d;
    for (size_t i = 0; i < shape.size(); ++i) {
      stride /= shape[i];  // no dimension is 0: an empty output is not computed, and no reduced one is
      int& count = attributes_.reduces(i) ? r.reduced : r.kept;
      (attributes_.reduces(i) ? r.reduced_size : r.kept_size)[count] = shape[i];
      (attributes_.reduces(i) ? r.reduced_stride : r.kept_stride)[count] = stride;
      ++count;
    }
    return r;
  }

  bool is_u8_;
  kernels::Affine affine_;
  Attributes attributes_;
  kernels::Output output_;
};

}  // namespace

const Op kReduce = {{"reduce", Check, Infer, nullptr}, PrepareStep<ReduceStep>, nullptr};

}  // namespace pqi::ops
