// gather: elements of one axis at places that are integers of the run. argmax: the place of the largest or least element along an axis.
#include <cmath>

#include "ops/families.h"
#include "ops/schema.h"
#include "ops/step_util.h"
#include "ops/walk.h"

namespace pqi::ops {
namespace {

// ---- gather

Status CheckGather(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckCounts(view, 2, 2));
  PQI_RETURN_IF_ERROR(CheckConstantKeys(view, {}));
  PQI_RETURN_IF_ERROR(CheckSameType(view));
  PQI_RETURN_IF_ERROR(CheckDType(view, view.input(1), "index", DType::kI32));
  AttrReader attrs(view);
  attrs.Axis();
  return attrs.Finish();
}

Status InferGather(const NodeView& view, const std::vector<Shape>& inputs, std::vector<Shape>* outputs) {
  AttrReader attrs(view);
  const size_t axis = attrs.Axis();
  PQI_RETURN_IF_ERROR(CheckAxis(view, inputs[0], axis));
  PQI_RETURN_IF_ERROR(CheckRank(view, inputs, 1, inputs[0].size()));
  Shape out = inputs[0];
  out[axis] = inputs[1][axis];
  for (size_t d = 0; d < out.size(); ++d) {
    const Dim &x = inputs[0][d], &index = inputs[1][d];
    if (d == axis || index == Dim::Fixed(1) || index == x || !index.fixed() || !x.fixed()) continue;
    return NodeError(view, "the index " + ShapeText(view.graph, inputs[1]) + " must have the dimensions of " +
                               ShapeText(view.graph, inputs[0]) + " or 1, but for axis " + std::to_string(axis));
  }
  outputs->assign(1, out);
  return {};
}

class GatherStep : public Step {
 public:
  explicit GatherStep(const NodeView& view) : element_size_(DTypeSize(view.output(0).dtype)) {
    AttrReader attrs(view);
    axis_ = attrs.Axis();
    info_ = {"copy", "data movement", 0};
  }

  std::optional<Lookup> lookup() const override { return Lookup{1, 0, axis_}; }

  void Run(const RunArgs& args) const noexcept override {
    ByElementSize(args, element_size_, [&](const auto* x, auto* y) { Copy(args, x, y); });
  }

 private:
  // Behind the axis lie `run` elements for which one index counts; they are neighbours in the input and in the output.
  template <typename T>
  void Copy(const RunArgs& args, const T* x, T* y) const {
    const ConcreteShape &out = *args.out.shape, &in = *args.in[0].shape, &places = *args.in[1].shape;
    size_t outer = out.size();
    int64_t run = 1, distance = 1;
    while (outer > axis_ + 1 && places[outer - 1] == 1) run *= out[--outer];
    for (size_t d = axis_ + 1; d < in.size(); ++d) distance *= in[d];
    Walk rows;  // through the input, from the first element of the axis
    int64_t stride = 1;
    for (int64_t n : in) stride *= n;
    for (size_t d = 0; d < out.size(); ++d) {
      stride /= in[d];
      rows.Add(out[d], d == axis_ ? 0 : stride);
    }
    const Walk indices = BroadcastWalk(places, out);
    const int32_t* index = args.in[1].i32();
    ParallelFor(args.pool, args.out.count() / run, kGrain / run + 1, [&](int64_t begin, int64_t end) {
      WalkCursor row(rows, outer, begin), place(indices, outer, begin);
      for (int64_t i = begin; i < end; ++i, row.Next(), place.Next()) {
        conv::CopyRun(x + row.offset() + index[place.offset()] * distance, run, y + i * run);
      }
    });
  }

  size_t element_size_, axis_ = 0;
};

// ---- argmax

struct Extreme {
  bool least = false, keepdim = false;
  size_t axis = 0;
};

Extreme ReadExtreme(AttrReader* attrs) {
  Extreme e;
  e.least = attrs->Choice("function", {"max", "min"}) == 1;
  e.axis = attrs->Axis();
  e.keepdim = attrs->Flag("keepdim");
  return e;
}

Status CheckArgmax(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckCounts(view, 1, 1));
  PQI_RETURN_IF_ERROR(CheckConstantKeys(view, {}));
  PQI_RETURN_IF_ERROR(CheckDType(view, view.output(0), "output", DType::kI32));
  AttrReader attrs(view);
  ReadExtreme(&attrs);
  return attrs.Finish();
}

Status InferArgmax(const NodeView& view, const std::vector<Shape>& inputs, std::vector<Shape>* outputs) {
  AttrReader attrs(view);
  const Extreme e = ReadExtreme(&attrs);
  PQI_RETURN_IF_ERROR(CheckAxis(view, inputs[0], e.axis));
  Shape out = inputs[0];
  if (out[e.axis].fixed() && out[e.axis].value < 1) {
    return NodeError(view, "the axis must have at least 1 element, got " + ShapeText(view.graph, inputs[0]));
  }
  if (e.keepdim) {
    out[e.axis] = Dim::Fixed(1);
  } else {
    out.erase(out.begin() + static_cast<std::ptrdiff_t>(e.axis));
  }
  outputs->assign(1, out);
  return {};
}

class ArgmaxStep : public Step {
 public:
  explicit ArgmaxStep(const NodeView& view) : type_(view.input(0).dtype) {
    AttrReader attrs(view);
    extreme_ = ReadExtreme(&attrs);
    info_ = {"reference", "", 0};
  }

  void Run(const RunArgs& args) const noexcept override {
    if (type_ == DType::kF32) {
      Find(args, args.in[0].f32());
    } else if (type_ == DType::kI32) {
      Find(args, args.in[0].i32());
    } else {
      Find(args, args.in[0].u8());
    }
  }

 private:
  // NaN is larger than all numbers, and less; of equals the first counts.
  template <typename T>
  bool Beats(T a, T b) const {
    if (std::isnan(static_cast<float>(b))) return false;
    return std::isnan(static_cast<float>(a)) || (extreme_.least ? a < b : a > b);
  }

  template <typename T>
  void Find(const RunArgs& args, const T* x) const {
    const ConcreteShape& in = *args.in[0].shape;
    const int64_t length = in[extreme_.axis];
    int64_t inner = 1;
    for (size_t d = extreme_.axis + 1; d < in.size(); ++d) inner *= in[d];
    int32_t* y = static_cast<int32_t*>(args.out.data);
    ParallelFor(args.pool, args.out.count(), kGrain / length + 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const T* at = x + i / inner * length * inner + i % inner;
        int64_t best = 0;
        for (int64_t k = 1; k < length; ++k) {
          if (Beats(at[k * inner], at[best * inner])) best = k;
        }
        y[i] = static_cast<int32_t>(best);
      }
    });
  }

  DType type_;
  Extreme extreme_;
};

}  // namespace

const Op kGather = {{"gather", CheckGather, InferGather, nullptr}, PrepareStep<GatherStep>, nullptr};
const Op kArgmax = {{"argmax", CheckArgmax, InferArgmax, nullptr}, PrepareStep<ArgmaxStep>, nullptr};

}  // namespace pqi::ops
