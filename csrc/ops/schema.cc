#include "ops/schema.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/text.h"

namespace pqi::ops {
namespace {

const char* ConstTypeName(ConstType type) {
  switch (type) {
    case ConstType::kF32:
      return "f32";
    case ConstType::kI32:
      return "i32";
    case ConstType::kU8:
      return "u8";
    case ConstType::kCode:
      return "code";
  }
  return "?";
}

}  // namespace

Status NodeError(const NodeView& view, const std::string& what) {
  return ModelFormat("node " + Quoted(view.node.name) + " (" + view.node.op + "): " + what);
}

void AttrReader::Fail(const std::string& what) {
  if (status_.ok()) status_ = NodeError(view_, what);
}

const Attr* AttrReader::Find(const char* name) {
  read_.emplace_back(name);
  auto it = view_.node.attrs.find(name);
  if (it == view_.node.attrs.end()) {
    Fail(std::string("attribute '") + name + "' is missing");
    return nullptr;
  }
  return &it->second;
}

int64_t AttrReader::Uint(const char* name, uint64_t min, uint64_t max) {
  const Attr* attr = Find(name);
  if (!attr) return static_cast<int64_t>(min);
  const uint64_t* v = std::get_if<uint64_t>(attr);
  if (!v || *v < min || *v > max) {
    Fail(std::string("attribute '") + name + "' must be a number in [" + std::to_string(min) + ", " + std::to_string(max) + "]" +
         (v ? ", got " + std::to_string(*v) : ""));
    return static_cast<int64_t>(min);
  }
  return static_cast<int64_t>(*v);
}

NumberOrSize AttrReader::UintOrSize(const char* name, uint64_t min, uint64_t max) {
  const auto found = view_.node.attrs.find(name);
  const std::string* text = found == view_.node.attrs.end() ? nullptr : std::get_if<std::string>(&found->second);
  if (!text) return {Uint(name, min, max), std::nullopt};
  read_.emplace_back(name);
  return Named(name, *text);
}

std::array<NumberOrSize, 2> AttrReader::PairOfSizes(const char* name, uint64_t min, uint64_t max) {
  const std::vector<DimOrName> list = List(name);
  std::array<NumberOrSize, 2> pair;
  bool good = list.size() == pair.size();
  for (size_t i = 0; good && i < pair.size(); ++i) {
    if (const std::string* text = std::get_if<std::string>(&list[i])) {
      pair[i] = Named(name, *text);
    } else {
      const uint64_t number = std::get<uint64_t>(list[i]);
      good = number >= min && number <= max;
      pair[i].number = static_cast<int64_t>(number);
    }
  }
  if (good) return pair;
  Fail(std::string("attribute '") + name + "' must be a list of 2 sizes, or numbers in [" + std::to_string(min) + ", " +
       std::to_string(max) + "]");
  return {};
}

NumberOrSize AttrReader::Named(const char* name, const std::string& size) {
  const std::optional<size_t> index = IndexOfName(view_.graph, size);
  if (!index) Fail(std::string("attribute '") + name + "' names the unknown size " + Quoted(size));
  return {0, index};
}

float AttrReader::FloatBits(const char* name) {
  const uint32_t bits = static_cast<uint32_t>(Uint(name, 0, std::numeric_limits<uint32_t>::max()));
  float f;
  std::memcpy(&f, &bits, sizeof f);
  return f;
}

int AttrReader::Choice(const char* name, std::initializer_list<const char*> allowed) {
  const Attr* attr = Find(name);
  if (!attr) return 0;
  const std::string* text = std::get_if<std::string>(attr);
  int index = 0;
  std::string list;
  for (const char* a : allowed) {
    if (text && *text == a) return index;
    list += (index++ ? ", " : "") + std::string(a);
  }
  Fail(std::string("attribute '") + name + "' must be one of " + list + (text ? ", got " + Quoted(*text) : ""));
  return 0;
}

void AttrReader::ReadList(const char* name, size_t n, uint64_t min, uint64_t max, int64_t* out) {
  std::fill_n(out, n, static_cast<int64_t>(min));
  const Attr* attr = Find(name);
  if (!attr) return;
  const auto* list = std::get_if<std::vector<DimOrName>>(attr);
  bool good = list && list->size() == n;
  for (size_t i = 0; good && i < n; ++i) {
    const uint64_t* v = std::get_if<uint64_t>(&(*list)[i]);
    good = v && *v >= min && *v <= max;
    if (good) out[i] = static_cast<int64_t>(*v);
  }
  if (!good) {
    Fail(std::string("attribute '") + name + "' must be a list of " + std::to_string(n) + " numbers in [" + std::to_string(min) + ", " +
         std::to_string(max) + "]");
  }
}

std::vector<DimOrName> AttrReader::List(const char* name) {
  const Attr* attr = Find(name);
  if (!attr) return {};
  const auto* list = std::get_if<std::vector<DimOrName>>(attr);
  if (!list || list->size() > 8) {
    Fail(std::string("attribute '") + name + "' must be a list of at most 8 entries");
    return {};
  }
  return *list;
}

Status AttrReader::Finish() {
  if (!status_.ok()) return status_;
  for (const auto& [name, value] : view_.node.attrs) {
    if (std::find(read_.begin(), read_.end(), name) == read_.end()) return NodeError(view_, "unknown attribute " + Quoted(name));
  }
  return {};
}

Bounds ReadActivation(AttrReader* attrs) {
  const int kind = attrs->Choice("activation", {"none", "relu", "clamp"});
  if (kind != 2) {
    attrs->Uint("lo", 0, 0);
    attrs->Uint("hi", 0, 0);
    return kind == 1 ? Bounds{0, kNoActivation.hi} : kNoActivation;
  }
  return ReadClamp(attrs);
}

Bounds ReadClamp(AttrReader* attrs) {
  const float lo = attrs->FloatBits("lo"), hi = attrs->FloatBits("hi");
  if (!(lo <= hi)) attrs->Fail("clamp bounds must satisfy lo <= hi, got lo = " + std::to_string(lo) + ", hi = " + std::to_string(hi));
  return {lo, hi};
}

Status CheckArity(const NodeView& view, size_t min_inputs, size_t max_inputs) {
  for (const auto* ids : {&view.node.inputs, &view.node.outputs}) {
    for (uint32_t id : *ids) {
      const Value& x = view.graph.values[id];
      const char* role = ids == &view.node.inputs ? "input " : "output ";
      if (x.dtype == DType::kI32) return NodeError(view, role + Quoted(x.name) + " must be f32 or u8, got i32");
    }
  }
  return CheckCounts(view, min_inputs, max_inputs);
}

Status CheckCounts(const NodeView& view, size_t min_inputs, size_t max_inputs) {
  const size_t n = view.node.inputs.size();
  if (n < min_inputs || n > max_inputs) {
    std::string want = std::to_string(min_inputs);
    if (max_inputs != min_inputs) want += " to " + std::to_string(max_inputs);
    return NodeError(view, "takes " + want + " inputs, got " + std::to_string(n));
  }
  if (view.node.outputs.size() != 1) return NodeError(view, "has 1 output, got " + std::to_string(view.node.outputs.size()));
  return {};
}

Status CheckConstantKeys(const NodeView& view, std::initializer_list<const char*> required, std::initializer_list<const char*> optional) {
  for (const char* key : required) {
    if (!view.has_constant(key)) return NodeError(view, std::string("constant '") + key + "' is missing");
  }
  for (const auto& [key, id] : view.node.constants) {
    const auto is_key = [&k = key](const char* name) { return k == name; };
    if (std::none_of(required.begin(), required.end(), is_key) && std::none_of(optional.begin(), optional.end(), is_key)) {
      return NodeError(view, "unknown constant " + Quoted(key));
    }
  }
  return {};
}

Status CheckConstant(const NodeView& view, const char* key, ConstType type, const std::vector<int64_t>& shape) {
  const Constant& c = *view.constant(key);
  if (c.type != type) {
    return NodeError(view, std::string("constant '") + key + "' must be " + ConstTypeName(type) + ", got " + ConstTypeName(c.type));
  }
  if (!shape.empty() && c.shape != shape) {
    return NodeError(view, std::string("constant '") + key + "' must have shape " + DimsText(shape) + ", got " + DimsText(c.shape));
  }
  return {};
}

Status CheckVector(const NodeView& view, const char* key) {
  const std::vector<int64_t>& shape = view.constant(key)->shape;
  if (shape.size() != 1 || shape[0] < 1) return NodeError(view, std::string("constant '") + key + "' must have 1 dimension of at least 1");
  return CheckConstant(view, key, ConstType::kF32, shape);
}

Status CheckRank(const NodeView& view, const std::vector<Shape>& inputs, size_t input, size_t rank) {
  if (inputs[input].size() == rank) return {};
  return NodeError(view, "input " + std::to_string(input) + " (" + Quoted(view.input(input).name) + ") must have rank " +
                             std::to_string(rank) + ", got " + ShapeText(view.graph, inputs[input]));
}

Status CheckAxis(const NodeView& view, const Shape& input, size_t axis) {
  if (axis < input.size()) return {};
  return NodeError(view, "axis " + std::to_string(axis) + " of an input of shape " + ShapeText(view.graph, input));
}

Status CheckDim(const NodeView& view, const std::vector<Shape>& inputs, size_t input, size_t dim, int64_t want) {
  const Dim& d = inputs[input][dim];
  if (!d.fixed() || d.value == want) return {};
  return NodeError(view, "dimension " + std::to_string(dim) + " of input " + Quoted(view.input(input).name) + " must be " +
                             std::to_string(want) + ", got shape " + ShapeText(view.graph, inputs[input]));
}

Status MergeShapes(const NodeView& view, const Shape& a, const Shape& b, const char* what, Shape* out) {
  bool same = a.size() == b.size();
  out->resize(a.size());
  for (size_t i = 0; same && i < a.size(); ++i) {
    same = !(a[i].fixed() && b[i].fixed()) || a[i] == b[i];
    const bool take_b = b[i].fixed() || (a[i].kind == Dim::kDerived);
    (*out)[i] = !a[i].fixed() && take_b ? b[i] : a[i];
  }
  if (same) return {};
  return NodeError(view,
                   std::string(what) + " must have the same shape, got " + ShapeText(view.graph, a) + " and " + ShapeText(view.graph, b));
}

bool BroadcastDim(Dim a, Dim b, Dim* out) {
  if (a.fixed() && b.fixed() && a != b && a.value != 1 && b.value != 1) return false;
  const Dim one = Dim::Fixed(1);
  if (a == b || b == one) {
    *out = a;
  } else if (a == one || b.fixed()) {  // an open dimension beside a number that is not 1 will be 1 or that number
    *out = b;
  } else if (a.fixed()) {
    *out = a;
  } else {
    *out = Dim::Derived();  // two open dimensions: each may turn out to be the 1
  }
  return true;
}

Status CheckSameType(const NodeView& view) {
  const Value &x = view.input(0), &y = view.output(0);
  if (x.dtype != y.dtype || x.quant != y.quant) return NodeError(view, "input and output must have the same dtype and quant");
  return {};
}

Status CheckDType(const NodeView& view, const Value& value, const char* role, DType dtype) {
  if (value.dtype == dtype) return {};
  return NodeError(view, std::string(role) + " " + Quoted(value.name) + " must be " + DTypeName(dtype) + ", got " + DTypeName(value.dtype));
}

Status CheckMovement(const NodeView& view, size_t max_inputs) {
  PQI_RETURN_IF_ERROR(CheckCounts(view, 1, max_inputs));
  PQI_RETURN_IF_ERROR(CheckConstantKeys(view, {}));
  return CheckSameType(view);
}

Status CheckFloatInput(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckArity(view, 1, 1));
  return CheckDType(view, view.input(0), "input", DType::kF32);
}

Status CheckFloats(const NodeView& view) {
  PQI_RETURN_IF_ERROR(CheckFloatInput(view));
  return CheckDType(view, view.output(0), "output", DType::kF32);
}

Status InferSame(const NodeView&, const std::vector<Shape>& inputs, std::vector<Shape>* outputs) {
  outputs->assign(1, inputs[0]);
  return {};
}

Status InferChannels(const NodeView& view, const std::vector<Shape>& inputs, int64_t channels, std::vector<Shape>* outputs) {
  if (inputs[0].empty()) return NodeError(view, "the input must have at least 1 dimension");
  const size_t last = inputs[0].size() - 1;
  PQI_RETURN_IF_ERROR(CheckDim(view, inputs, 0, last, channels));
  outputs->assign(1, inputs[0]);
  outputs->front()[last] = Dim::Fixed(channels);
  return {};
}

const Quant& QuantOf(const Graph& graph, const Value& value) { return graph.quants[static_cast<size_t>(value.quant)]; }

}  // namespace pqi::ops
