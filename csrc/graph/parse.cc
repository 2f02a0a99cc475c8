#include "graph/parse.h"

#include <string>
#include <unordered_map>

#include "base/checked.h"
#include "base/text.h"
#include "codec/codec.h"
#include "format/fields.h"
#include "format/json.h"
#include "graph/shapes.h"

namespace pqi {
namespace {

constexpr size_t kMaxConditions = 1024;
constexpr size_t kMaxSizes = 1024;
constexpr uint64_t kMaxId = UINT32_MAX - 1;  // ids are range-checked by CheckStructure; this keeps them in their type

std::string At(const char* list, size_t index) { return std::string(list) + "[" + std::to_string(index) + "]"; }

// Reads the graph's lists one after the other. Symbols come first, because shapes name them.
class GraphParser {
 public:
  explicit GraphParser(GraphSource source) : source_(source) {}

  Status Parse(JsonRef root) {
    PQI_RETURN_IF_ERROR(CheckKeys(root, "graph", {"symbols", "quants", "constants", "values", "nodes", "inputs", "outputs", "samples"},
                                  {"sizes", "conditions"}));
    PQI_RETURN_IF_ERROR(Each(root, "symbols", &GraphParser::ParseSymbol));
    if (root.Find("sizes")) PQI_RETURN_IF_ERROR(Each(root, "sizes", &GraphParser::ParseSize));
    if (root.Find("conditions")) PQI_RETURN_IF_ERROR(Each(root, "conditions", &GraphParser::ParseCondition));
    PQI_RETURN_IF_ERROR(Each(root, "quants", &GraphParser::ParseQuant));
    PQI_RETURN_IF_ERROR(Each(root, "constants", &GraphParser::ParseConstant));
    PQI_RETURN_IF_ERROR(Each(root, "values", &GraphParser::ParseValue));
    PQI_RETURN_IF_ERROR(Each(root, "nodes", &GraphParser::ParseNode));
    PQI_RETURN_IF_ERROR(Each(root, "inputs", &GraphParser::ParseInput));
    PQI_RETURN_IF_ERROR(Each(root, "outputs", &GraphParser::ParseOutput));
    return Each(root, "samples", &GraphParser::ParseSample);
  }

  ParsedGraph Take() && { return std::move(out_); }

 private:
  using ParseItem = Status (GraphParser::*)(JsonRef item, const std::string& where);

  Status Each(JsonRef root, const char* list, ParseItem parse) {
    PQI_ASSIGN_OR_RETURN(const JsonRef items, Member(root, list, JsonKind::kArray, "graph"));
    size_t index = 0;
    for (JsonRef item : items) PQI_RETURN_IF_ERROR((this->*parse)(item, At(list, index++)));
    return {};
  }

  static Status ReadName(JsonRef object, const char* key, const std::string& where, std::string* out) {
    PQI_ASSIGN_OR_RETURN(const JsonRef name, Member(object, key, JsonKind::kString, where));
    PQI_RETURN_IF_ERROR(CheckName(name.text(), where + "." + key));
    *out = std::string(name.text());
    return {};
  }

  static Status ReadNumber(JsonRef object, const char* key, uint64_t lo, uint64_t hi, const std::string& where, uint64_t* out) {
    PQI_ASSIGN_OR_RETURN(const JsonRef number, Member(object, key, JsonKind::kNumber, where));
    *out = number.number();
    if (*out >= lo && *out <= hi) return {};
    return ModelFormat(where + "." + key + ": " + std::to_string(*out) + " is outside [" + std::to_string(lo) + ", " + std::to_string(hi) +
                       "]");
  }

  template <typename T>
  static Status ReadNumberAs(JsonRef object, const char* key, uint64_t lo, uint64_t hi, const std::string& where, T* out) {
    uint64_t number = 0;
    PQI_RETURN_IF_ERROR(ReadNumber(object, key, lo, hi, where, &number));
    *out = static_cast<T>(number);
    return {};
  }

  static Status ReadId(JsonRef value, const std::string& where, uint32_t* out) {
    PQI_RETURN_IF_ERROR(CheckKind(value, JsonKind::kNumber, where));
    if (value.number() > kMaxId) return ModelFormat(where + ": " + std::to_string(value.number()) + " is no id of this graph");
    *out = static_cast<uint32_t>(value.number());
    return {};
  }

  static Status ReadIds(JsonRef object, const char* key, const std::string& where, std::vector<uint32_t>* out) {
    PQI_ASSIGN_OR_RETURN(const JsonRef ids, Member(object, key, JsonKind::kArray, where));
    for (JsonRef id : ids) PQI_RETURN_IF_ERROR(ReadId(id, where + "." + key, &out->emplace_back()));
    return {};
  }

  static Status ReadIdMap(JsonRef object, const char* key, const std::string& where, std::map<std::string, uint32_t>* out) {
    PQI_ASSIGN_OR_RETURN(const JsonRef members, Member(object, key, JsonKind::kObject, where));
    for (JsonRef member : members) {
      PQI_RETURN_IF_ERROR(CheckName(member.key(), where + "." + key));
      PQI_RETURN_IF_ERROR(ReadId(member, where + "." + key + "." + Quoted(member.key()), &(*out)[std::string(member.key())]));
    }
    return {};
  }

  Status ParseSymbol(JsonRef item, const std::string& where) {
    PQI_RETURN_IF_ERROR(CheckKind(item, JsonKind::kString, where));
    PQI_RETURN_IF_ERROR(CheckName(item.text(), where));
    if (item.text() == "?") return ModelFormat(where + ": '?' is no name for a symbol");
    const std::string name(item.text());
    if (!symbols_.emplace(name, symbols_.size()).second) return ModelFormat(where + ": " + Quoted(name) + " appears twice");
    graph().symbols.push_back(name);
    return {};
  }

  // A list of a name and a term over symbols.
  Status ParseSize(JsonRef item, const std::string& where) {
    if (graph().sizes.size() == kMaxSizes) return ModelFormat("more than " + std::to_string(kMaxSizes) + " sizes");
    PQI_RETURN_IF_ERROR(CheckKind(item, JsonKind::kArray, where));
    std::vector<JsonRef> parts;
    for (JsonRef part : item) parts.push_back(part);
    if (parts.size() != 2 || parts[0].kind() != JsonKind::kString) return ModelFormat(where + ": expected a name and a term");
    PQI_RETURN_IF_ERROR(CheckName(parts[0].text(), where));
    Size size;
    size.name = std::string(parts[0].text());
    if (size.name == "?" || IndexOfName(graph(), size.name)) return ModelFormat(where + ": the name " + Quoted(size.name) + " is taken");
    PQI_RETURN_IF_ERROR(ReadTerm(parts[1], where, &size.term));
    graph().sizes.push_back(std::move(size));
    return {};
  }

  // A list of a comparison and two terms.
  Status ParseCondition(JsonRef item, const std::string& where) {
    if (graph().conditions.size() == kMaxConditions) return ModelFormat("more than " + std::to_string(kMaxConditions) + " conditions");
    std::vector<JsonRef> parts;
    PQI_RETURN_IF_ERROR(ReadOperation(item, where, &parts));
    const std::optional<Condition::Comparison> comparison = ComparisonOf(parts[0].text());
    if (!comparison) return ModelFormat(where + ": " + Quoted(parts[0].text()) + " is no comparison");
    Condition condition;
    condition.comparison = *comparison;
    PQI_RETURN_IF_ERROR(ReadTerm(parts[1], where, &condition.left));
    PQI_RETURN_IF_ERROR(ReadTerm(parts[2], where, &condition.right));
    graph().conditions.push_back(std::move(condition));
    return {};
  }

  static Status ReadOperation(JsonRef item, const std::string& where, std::vector<JsonRef>* parts) {
    PQI_RETURN_IF_ERROR(CheckKind(item, JsonKind::kArray, where));
    for (JsonRef part : item) parts->push_back(part);
    if (parts->size() == 3 && (*parts)[0].kind() == JsonKind::kString) return {};
    return ModelFormat(where + ": expected the name of an operation and two operands");
  }

  // Appends a term in post-order. The depth of the recursion is that of the JSON text, which is limited.
  Status ReadTerm(JsonRef item, const std::string& where, Term* out) {
    if (item.kind() == JsonKind::kNumber) {
      out->push_back({TermNode::kNumber, static_cast<int64_t>(item.number())});
      return {};
    }
    if (item.kind() == JsonKind::kString) {
      const auto symbol = symbols_.find(std::string(item.text()));
      if (symbol == symbols_.end()) return ModelFormat(where + ": unknown symbol " + Quoted(item.text()));
      out->push_back({TermNode::kSymbol, static_cast<int64_t>(symbol->second)});
      return {};
    }
    std::vector<JsonRef> parts;
    PQI_RETURN_IF_ERROR(ReadOperation(item, where, &parts));
    const std::optional<TermNode::Kind> operation = OperationOf(parts[0].text());
    if (!operation) return ModelFormat(where + ": " + Quoted(parts[0].text()) + " is no operation");
    PQI_RETURN_IF_ERROR(ReadTerm(parts[1], where, out));
    PQI_RETURN_IF_ERROR(ReadTerm(parts[2], where, out));
    out->push_back({*operation, 0});
    return {};
  }

  Status ParseQuant(JsonRef item, const std::string& where) {
    PQI_RETURN_IF_ERROR(CheckKeys(item, where, {"bits", "zero_point", "qmin", "qmax"}));
    Quant quant;
    PQI_RETURN_IF_ERROR(ReadNumberAs(item, "bits", 2, 8, where, &quant.bits));
    PQI_RETURN_IF_ERROR(ReadNumberAs(item, "qmax", 1, (uint64_t{1} << quant.bits) - 1, where, &quant.qmax));
    PQI_RETURN_IF_ERROR(ReadNumberAs(item, "qmin", 0, static_cast<uint64_t>(quant.qmax - 1), where, &quant.qmin));
    PQI_RETURN_IF_ERROR(
        ReadNumberAs(item, "zero_point", static_cast<uint64_t>(quant.qmin), static_cast<uint64_t>(quant.qmax), where, &quant.zero_point));
    graph().quants.push_back(quant);
    return {};
  }

  Status ParseConstant(JsonRef item, const std::string& where) {
    PQI_RETURN_IF_ERROR(CheckKeys(item, where, {"name", "dtype", "shape"}, {"bits", "packing"}));
    Constant constant;
    PQI_RETURN_IF_ERROR(ReadName(item, "name", where, &constant.name));
    PQI_ASSIGN_OR_RETURN(const JsonRef dtype, Member(item, "dtype", JsonKind::kString, where));
    if (dtype.text() == "f32") {
      constant.type = ConstType::kF32;
    } else if (dtype.text() == "i32") {
      constant.type = ConstType::kI32;
    } else if (dtype.text() == "u8") {
      constant.type = ConstType::kU8;
    } else if (dtype.text() == "code") {
      constant.type = ConstType::kCode;
    } else {
      return ModelFormat(where + ": unknown dtype " + Quoted(dtype.text()) + ", expected f32, i32, u8 or code");
    }
    const bool is_code = constant.type == ConstType::kCode;
    for (const char* key : {"bits", "packing"}) {
      if (item.Find(key).has_value() != is_code) {
        return ModelFormat(where + ": " + Quoted(key) + (is_code ? " is missing" : " belongs to dtype code only"));
      }
    }
    PQI_ASSIGN_OR_RETURN(const JsonRef dims, Member(item, "shape", JsonKind::kArray, where));
    if (dims.size() > kMaxRank) return ModelFormat(where + ": rank " + std::to_string(dims.size()) + " is larger than 8");
    for (JsonRef dim : dims) {
      PQI_RETURN_IF_ERROR(CheckKind(dim, JsonKind::kNumber, where + ".shape"));
      if (dim.number() < 1 || dim.number() > kMaxDim) {
        return ModelFormat(where + ": dimension " + std::to_string(dim.number()) + " is outside [1, 2^31 - 1]");
      }
      constant.shape.push_back(static_cast<int64_t>(dim.number()));
    }
    uint64_t bytes = 0;
    if (!CheckedByteSize(constant.shape, 4, kMaxValueBytes, &bytes)) {
      return ModelFormat(where + ": shape " + DimsText(constant.shape) + " has too many elements");
    }
    if (is_code) PQI_RETURN_IF_ERROR(ReadPacking(item, where, &constant));
    graph().constants.push_back(std::move(constant));
    return {};
  }

  static Status ReadPacking(JsonRef item, const std::string& where, Constant* constant) {
    struct Row {
      const char* name;
      Packing packing;
      int32_t min_bits, max_bits;
    };
    static constexpr Row kRows[] = {{"none", Packing::kNone, 8, 8},
                                    {"nibble", Packing::kNibble, 4, 4},
                                    {"trit5", Packing::kTrit5, 2, 2},
                                    {"dense", Packing::kDense, 2, 7},
                                    {"trit_rans", Packing::kTritRans, 2, 2}};
    PQI_RETURN_IF_ERROR(ReadNumberAs(item, "bits", 2, 8, where, &constant->bits));
    PQI_ASSIGN_OR_RETURN(const JsonRef packing, Member(item, "packing", JsonKind::kString, where));
    for (const Row& row : kRows) {
      if (packing.text() != row.name) continue;
      constant->packing = row.packing;
      if (constant->bits >= row.min_bits && constant->bits <= row.max_bits) return {};
      return ModelFormat(where + ": packing " + Quoted(row.name) + " cannot hold " + std::to_string(constant->bits) + " bits");
    }
    return ModelFormat(where + ": unknown packing " + Quoted(packing.text()) + ", expected none, nibble, trit5, dense or trit_rans");
  }

  Status ParseValue(JsonRef item, const std::string& where) {
    Value value;
    const bool has_shape = item.kind() == JsonKind::kObject && item.Find("shape").has_value();
    if (has_shape || source_ == GraphSource::kFile) {
      PQI_RETURN_IF_ERROR(CheckKeys(item, where, {"name", "dtype", "shape"}, {"quant"}));
      PQI_RETURN_IF_ERROR(ReadValueShape(item, where, &value.shape));
    } else {
      PQI_RETURN_IF_ERROR(CheckKeys(item, where, {"name", "dtype"}, {"quant"}));
    }
    PQI_RETURN_IF_ERROR(ReadName(item, "name", where, &value.name));
    PQI_ASSIGN_OR_RETURN(const JsonRef dtype, Member(item, "dtype", JsonKind::kString, where));
    if (dtype.text() == "u8") {
      value.dtype = DType::kU8;
    } else if (dtype.text() == "i32") {
      value.dtype = DType::kI32;
    } else if (dtype.text() != "f32") {
      return ModelFormat(where + ": unknown dtype " + Quoted(dtype.text()) + ", expected f32, u8 or i32");
    }
    if (item.Find("quant").has_value() != (value.dtype == DType::kU8)) {
      return ModelFormat(where + ": 'quant' belongs to dtype u8, and to no other");
    }
    if (value.dtype == DType::kU8) {
      const size_t quants = graph().quants.size();
      if (quants == 0) return ModelFormat(where + ": the graph has no quants");
      PQI_RETURN_IF_ERROR(ReadNumberAs(item, "quant", 0, quants - 1, where, &value.quant));
    }
    graph().values.push_back(std::move(value));
    out_.shape_given.push_back(has_shape);
    return {};
  }

  Status ReadValueShape(JsonRef item, const std::string& where, Shape* out) {
    PQI_ASSIGN_OR_RETURN(const JsonRef dims, Member(item, "shape", JsonKind::kArray, where));
    if (dims.size() > kMaxRank) return ModelFormat(where + ": rank " + std::to_string(dims.size()) + " is larger than 8");
    for (JsonRef dim : dims) {
      if (dim.kind() == JsonKind::kNumber) {
        if (dim.number() > kMaxDim) return ModelFormat(where + ": dimension " + std::to_string(dim.number()) + " is larger than 2^31 - 1");
        out->push_back(Dim::Fixed(static_cast<int64_t>(dim.number())));
        continue;
      }
      PQI_RETURN_IF_ERROR(CheckKind(dim, JsonKind::kString, where + ".shape"));
      if (dim.text() == "?") {
        out->push_back(Dim::Derived());
        continue;
      }
      const auto symbol = symbols_.find(std::string(dim.text()));
      if (symbol == symbols_.end()) return ModelFormat(where + ": unknown symbol " + Quoted(dim.text()));
      out->push_back(Dim::Symbol(static_cast<int64_t>(symbol->second)));
    }
    return {};
  }

  Status ParseNode(JsonRef item, const std::string& where) {
    PQI_RETURN_IF_ERROR(CheckKeys(item, where, {"op", "name", "inputs", "outputs", "constants", "attrs"}));
    Node node;
    PQI_RETURN_IF_ERROR(ReadName(item, "op", where, &node.op));
    PQI_RETURN_IF_ERROR(ReadName(item, "name", where, &node.name));
    PQI_RETURN_IF_ERROR(ReadIds(item, "inputs", where, &node.inputs));
    PQI_RETURN_IF_ERROR(ReadIds(item, "outputs", where, &node.outputs));
    PQI_RETURN_IF_ERROR(ReadIdMap(item, "constants", where, &node.constants));
    PQI_ASSIGN_OR_RETURN(const JsonRef attrs, Member(item, "attrs", JsonKind::kObject, where));
    for (JsonRef attr : attrs) {
      PQI_RETURN_IF_ERROR(CheckName(attr.key(), where + ".attrs"));
      PQI_RETURN_IF_ERROR(ReadAttr(attr, where + ".attrs." + Quoted(attr.key()), &node.attrs[std::string(attr.key())]));
    }
    graph().nodes.push_back(std::move(node));
    return {};
  }

  static Status ReadAttr(JsonRef attr, const std::string& where, Attr* out) {
    switch (attr.kind()) {
      case JsonKind::kNumber:
        *out = attr.number();
        return {};
      case JsonKind::kString:
        *out = std::string(attr.text());
        return {};
      case JsonKind::kObject:
        return ModelFormat(where + ": an attribute is a number, a string or a list");
      case JsonKind::kArray:
        break;
    }
    std::vector<DimOrName> list;
    for (JsonRef element : attr) {
      if (element.kind() == JsonKind::kNumber) {
        list.emplace_back(element.number());
      } else {
        PQI_RETURN_IF_ERROR(CheckKind(element, JsonKind::kString, where));
        list.emplace_back(std::string(element.text()));
      }
    }
    *out = std::move(list);
    return {};
  }

  Status ParsePort(JsonRef item, const std::string& where, std::vector<Port>* ports) {
    PQI_RETURN_IF_ERROR(CheckKeys(item, where, {"name", "value"}));
    Port port;
    PQI_RETURN_IF_ERROR(ReadName(item, "name", where, &port.name));
    PQI_RETURN_IF_ERROR(ReadId(*item.Find("value"), where + ".value", &port.value));
    ports->push_back(std::move(port));
    return {};
  }
  Status ParseInput(JsonRef item, const std::string& where) { return ParsePort(item, where, &graph().inputs); }
  Status ParseOutput(JsonRef item, const std::string& where) { return ParsePort(item, where, &graph().outputs); }

  Status ParseSample(JsonRef item, const std::string& where) {
    PQI_RETURN_IF_ERROR(CheckKeys(item, where, {"inputs", "outputs"}));
    Sample sample;
    PQI_RETURN_IF_ERROR(ReadIdMap(item, "inputs", where, &sample.inputs));
    PQI_RETURN_IF_ERROR(ReadIdMap(item, "outputs", where, &sample.outputs));
    graph().samples.push_back(std::move(sample));
    return {};
  }

  Graph& graph() { return out_.graph; }

  GraphSource source_;
  ParsedGraph out_;
  std::unordered_map<std::string, size_t> symbols_;
};

}  // namespace

Result<ParsedGraph> ParseGraph(std::string_view text, GraphSource source) {
  PQI_ASSIGN_OR_RETURN(const JsonDocument document, JsonDocument::Parse(text, "graph"));
  GraphParser parser(source);
  PQI_RETURN_IF_ERROR(parser.Parse(document.root()));
  ParsedGraph parsed = std::move(parser).Take();
  PQI_RETURN_IF_ERROR(CheckStructure(parsed.graph));
  for (const Port& input : parsed.graph.inputs) {
    if (!parsed.shape_given[input.value]) return ModelFormat("values[" + std::to_string(input.value) + "]: a graph input needs a shape");
  }
  return parsed;
}

}  // namespace pqi
