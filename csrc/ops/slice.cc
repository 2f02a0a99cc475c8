// slice: every step-th element of [start, end) along one axis.
#include <algorithm>
#include <cstring>

#include "conv/copy_few.h"
#include "ops/families.h"
#include "ops/schema.h"
#include "ops/step_util.h"

namespace pqi::ops {
namespace {

struct Attributes {
  size_t axis = 0;
  NumberOrSize start, end;
  int64_t step = 1;

  // How many elements are taken of a dimension; an end behind it is the dimension's end, as in torch.
  int64_t Count(int64_t length, Span<const int64_t> numbers) const {
    const int64_t first = std::min(start.In(numbers), length), last = std::min(end.In(numbers), length);
    return last > first ? (last - first - 1) / step + 1 : 0;
  }
  bool KeepsAll() const { return start.known() && end.known() && start.number == 0 && end.number == kMaxDim && step == 1; }
};

Attributes ReadAttributes(AttrReader* attrs) {
  Attributes a;
  a.axis = attrs->Axis();
  a.start = attrs->UintOrSize("start", 0, kMaxDim);
  a.end = attrs->UintOrSize("end", 0, kMaxDim);
  a.step = attrs->Uint("step", 1, kMaxDim);
  return a;
}

Status Check(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckMovement(view));
  AttrReader attrs(view);
  const Attributes a = ReadAttributes(&attrs);
  if (a.start.known() && a.end.known() && a.start.number >= a.end.number) {
    attrs.Fail("'start' must be below 'end', got " + std::to_string(a.start.number) + " and " + std::to_string(a.end.number));
  }
  return attrs.Finish();
}

Status Infer(const NodeView& view, const std::vector<Shape>& inputs, std::vector<Shape>* outputs) {
  AttrReader attrs(view);
  const Attributes a = ReadAttributes(&attrs);
  PQI_RETURN_IF_ERROR(CheckAxis(view, inputs[0], a.axis));
  outputs->assign(1, inputs[0]);
  Dim& dim = outputs->front()[a.axis];
  const bool known = (a.start.known() && a.end.known()) || !view.numbers.empty();
  if (dim.fixed() && known) {
    dim = Dim::Fixed(a.Count(dim.value, view.numbers));
  } else if (!a.KeepsAll()) {
    dim = Dim::Derived();
  }
  return {};
}

class SliceStep : public Step {
 public:
  explicit SliceStep(const NodeView& view) : element_size_(DTypeSize(view.output(0).dtype)) {
    AttrReader attrs(view);
    a_ = ReadAttributes(&attrs);
    last_axis_ = a_.axis + 1 == view.output(0).shape.size();
    info_ = {"copy", "data movement", 0};
  }

  // A row of the output is one piece of an input's row where the axis is the last one.
  bool SpacesRows() const override { return last_axis_; }

  void Run(const RunArgs& args) const noexcept override {
    const ConcreteShape& shape = *args.out.shape;
    int64_t outer = 1;
    size_t inner = element_size_;  // bytes of one element along the axis, with all that lies in it
    for (size_t d = 0; d < a_.axis; ++d) outer *= shape[d];
    for (size_t d = a_.axis + 1; d < shape.size(); ++d) inner *= static_cast<size_t>(shape[d]);
    const size_t length = static_cast<size_t>(args.in[0].dim(a_.axis)), count = static_cast<size_t>(shape[a_.axis]);
    const size_t start = static_cast<size_t>(a_.start.In(args.numbers)), step = static_cast<size_t>(a_.step);
    const size_t row = last_axis_ ? static_cast<size_t>(args.out_stride) * element_size_ : count * inner;
    const uint8_t* x = static_cast<const uint8_t*>(args.in[0].data);
    uint8_t* y = static_cast<uint8_t*>(args.out.data);
    ParallelFor(args.pool, outer, kGrain / static_cast<int64_t>(count * inner) + 1, [&](int64_t begin, int64_t end) {
      for (size_t r = static_cast<size_t>(begin); r < static_cast<size_t>(end); ++r) {
        const uint8_t* from = x + (r * length + start) * inner;
        uint8_t* to = y + r * row;
        if (step == 1) {
          conv::CopyRun(from, static_cast<int64_t>(count * inner), to);
        } else {
          for (size_t i = 0; i < count; ++i) std::memcpy(to + i * inner, from + i * step * inner, inner);
        }
      }
    });
  }

 private:
  size_t element_size_;
  Attributes a_;
  bool last_axis_ = false;
};

}  // namespace

const Op kSlice = {{"slice", Check, Infer, nullptr}, PrepareStep<SliceStep>, nullptr};

}  // namespace pqi::ops
