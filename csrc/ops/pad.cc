// pad: elements put before and behind every axis: a constant, the nearest element, or the image mirrored at its edge.
#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "ops/families.h"
#include "ops/schema.h"
#include "ops/step_util.h"

namespace pqi::ops {
namespace {

enum class Mode { kConstant, kReflect, kReplicate };  // their order is that of docs/format.md

struct Attributes {
  Mode mode = Mode::kConstant;
  std::vector<int64_t> before, after;
  uint32_t value = 0;
};

std::vector<int64_t> ReadAmounts(AttrReader* attrs, const char* name) {
  std::vector<int64_t> out;
  for (const DimOrName& entry : attrs->List(name)) {
    const uint64_t* v = std::get_if<uint64_t>(&entry);
    if (!v || *v > kMaxWindowAttr) attrs->Fail(std::string("attribute '") + name + "' must be a list of numbers in [0, 65535]");
    out.push_back(v ? static_cast<int64_t>(*v) : 0);
  }
  return out;
}

Attributes ReadAttributes(AttrReader* attrs) {
  Attributes a;
  a.mode = static_cast<Mode>(attrs->Choice("mode", {"constant", "reflect", "replicate"}));
  a.before = ReadAmounts(attrs, "before");
  a.after = ReadAmounts(attrs, "after");
  a.value = static_cast<uint32_t>(attrs->Uint("value", 0, UINT32_MAX));
  return a;
}

Status Check(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckArity(view, 1, 1));
  PQI_RETURN_IF_ERROR(CheckMovement(view));
  AttrReader attrs(view);
  const Attributes a = ReadAttributes(&attrs);
  if (a.before.size() != a.after.size()) attrs.Fail("'before' and 'after' must have one number for each axis");
  if (a.mode != Mode::kConstant && a.value != 0) attrs.Fail("'value' must be 0 unless 'mode' is constant");
  if (a.mode == Mode::kConstant && view.input(0).dtype == DType::kU8) {
    const Quant& q = QuantOf(view.graph, view.input(0));
    if (a.value < static_cast<uint32_t>(q.qmin) || a.value > static_cast<uint32_t>(q.qmax)) {
      attrs.Fail("'value' must be a code in [" + std::to_string(q.qmin) + ", " + std::to_string(q.qmax) + "], got " +
                 std::to_string(a.value));
    }
  }
  return attrs.Finish();
}

Status Infer(const NodeView& view, const std::vector<Shape>& inputs, std::vector<Shape>* outputs) {
  AttrReader attrs(view);
  const Attributes a = ReadAttributes(&attrs);
  PQI_RETURN_IF_ERROR(CheckRank(view, inputs, 0, a.before.size()));
  Shape out = inputs[0];
  for (size_t d = 0; d < out.size(); ++d) {
    const int64_t more = a.before[d] + a.after[d];
    if (more == 0) continue;
    if (!out[d].fixed()) {
      out[d] = Dim::Derived();
      continue;
    }
    const int64_t least = a.mode == Mode::kReflect ? std::max(a.before[d], a.after[d]) + 1 : a.mode == Mode::kReplicate ? 1 : 0;
    if (out[d].value < least) {
      return NodeError(view, "dimension " + std::to_string(d) + " must be at least " + std::to_string(least) + " for its padding, got " +
                                 std::to_string(out[d].value));
    }
    out[d] = Dim::Fixed(out[d].value + more);
  }
  outputs->assign(1, out);
  return {};
}

class PadStep : public Step {
 public:
  explicit PadStep(const NodeView& view) : element_size_(DTypeSize(view.output(0).dtype)) {
    AttrReader attrs(view);
    a_ = ReadAttributes(&attrs);
    for (size_t d = 0; d < a_.before.size(); ++d) {
      if (a_.before[d] + a_.after[d] != 0) last_ = d;
    }
    info_ = {"copy", "data movement", 0};
  }

  // Rows run along the last padded axis; what lies behind it is one block.
  void Run(const RunArgs& args) const noexcept override {
    const ConcreteShape& shape = *args.out.shape;
    const uint8_t* x = static_cast<const uint8_t*>(args.in[0].data);
    uint8_t* y = static_cast<uint8_t*>(args.out.data);
    if (shape.empty()) {
      std::memcpy(y, x, element_size_);
      return;
    }
    int64_t rows = 1, block = 1;
    for (size_t d = 0; d < last_; ++d) rows *= shape[d];
    for (size_t d = last_ + 1; d < shape.size(); ++d) block *= shape[d];
    const int64_t length = args.in[0].dim(last_), out_length = shape[last_];
    const int64_t bytes = block * static_cast<int64_t>(element_size_);
    ParallelFor(args.pool, rows, kGrain / (out_length * block) + 1, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        uint8_t* to = y + row * out_length * bytes;
        const int64_t source = SourceRow(args, shape, row);
        if (source < 0) {
          Fill(to, out_length * block);
        } else {
          Row(x + source * length * bytes, to, length, block, bytes);
        }
      }
    });
  }

 private:
  // Gives the position of the input that position `i` of the padded axis `d` comes from, -1 if there is none.
  int64_t Source(int64_t i, size_t d, int64_t length) const {
    const int64_t at = i - a_.before[d];
    if (at >= 0 && at < length) return at;
    if (a_.mode == Mode::kConstant) return -1;
    if (a_.mode == Mode::kReplicate) return at < 0 ? 0 : length - 1;
    return at < 0 ? -at : 2 * (length - 1) - at;
  }

  int64_t SourceRow(const RunArgs& args, const ConcreteShape& shape, int64_t row) const {
    int64_t source = 0, stride = 1;
    for (size_t d = last_; d-- > 0;) {
      const int64_t at = Source(row % shape[d], d, args.in[0].dim(d));
      if (at < 0) return -1;
      source += at * stride;
      stride *= args.in[0].dim(d);
      row /= shape[d];
    }
    return source;
  }

  void Row(const uint8_t* x, uint8_t* y, int64_t length, int64_t block, int64_t bytes) const {
    const int64_t before = a_.before[last_], out_length = before + length + a_.after[last_];
    if (length > 0) std::memcpy(y + before * bytes, x, static_cast<size_t>(length * bytes));
    for (int64_t i = 0; i < out_length; ++i) {
      if (i == before) i += length;
      if (i >= out_length) break;
      const int64_t from = Source(i, last_, length);
      if (from < 0) {
        Fill(y + i * bytes, block);
      } else {
        std::memcpy(y + i * bytes, x + from * bytes, static_cast<size_t>(bytes));
      }
    }
  }

  void Fill(uint8_t* y, int64_t elements) const {
    if (element_size_ == 1) {
      std::memset(y, static_cast<int>(a_.value), static_cast<size_t>(elements));
    } else {
      std::fill_n(reinterpret_cast<uint32_t*>(y), elements, a_.value);
    }
  }

  size_t element_size_;
  Attributes a_;
  size_t last_ = 0;  // the last axis with padding
};

}  // namespace

const Op kPad = {{"pad", Check, Infer, nullptr}, PrepareStep<PadStep>, nullptr};

}  // namespace pqi::ops
