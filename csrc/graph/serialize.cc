#include "graph/serialize.h"

#include <cstring>
#include <string_view>

#include "format/container.h"

namespace pqi {
namespace {

// Appends "[item,item,...]" where append_item(item) writes one.
template <typename List, typename AppendItem>
void AppendList(std::string* out, const List& list, AppendItem append_item) {
  *out += '[';
  bool first = true;
  for (const auto& item : list) {
    if (!first) *out += ',';
    first = false;
    append_item(item);
  }
  *out += ']';
}

class GraphWriter {
 public:
  GraphWriter(const Graph& graph, ScaleText scales) : graph_(graph), scales_(scales) {}

  std::string Write() {
    List("{\"symbols\":", graph_.symbols, [this](const std::string& s) { AppendJsonString(&out_, s); });
    if (!graph_.sizes.empty()) List(",\"sizes\":", graph_.sizes, [this](const Size& s) { WriteSize(s); });
    if (!graph_.conditions.empty()) List(",\"conditions\":", graph_.conditions, [this](const Condition& c) { WriteCondition(c); });
    List(",\"quants\":", graph_.quants, [this](const Quant& q) { WriteQuant(q); });
    List(",\"constants\":", graph_.constants, [this](const Constant& c) { WriteConstant(c); });
    List(",\"values\":", graph_.values, [this](const Value& v) { WriteValue(v); });
    List(",\"nodes\":", graph_.nodes, [this](const Node& n) { WriteNode(n); });
    List(",\"inputs\":", graph_.inputs, [this](const Port& p) { WritePort(p); });
    List(",\"outputs\":", graph_.outputs, [this](const Port& p) { WritePort(p); });
    List(",\"samples\":", graph_.samples, [this](const Sample& s) {
      IdMap("{\"inputs\":", s.inputs);
      IdMap(",\"outputs\":", s.outputs);
      out_ += '}';
    });
    out_ += '}';
    return std::move(out_);
  }

 private:
  template <typename Items, typename AppendItem>
  void List(const char* before, const Items& items, AppendItem append_item) {
    out_ += before;
    AppendList(&out_, items, append_item);
  }

  void String(const char* before, std::string_view text) {
    out_ += before;
    AppendJsonString(&out_, text);
  }

  void Number(const char* before, uint64_t number) { out_ += before + std::to_string(number); }

  void IdMap(const char* before, const std::map<std::string, uint32_t>& ids) {
    out_ += before;
    char separator = '{';
    for (const auto& [key, id] : ids) {
      out_ += separator;
      separator = ',';
      String("", key);
      Number(":", id);
    }
    out_ += ids.empty() ? "{}" : "}";
  }

  void WriteSize(const Size& size) {
    String("[", size.name);
    WriteTerm(size.term);
    out_ += ']';
  }

  void WriteCondition(const Condition& condition) {
    String("[", TextOf(condition.comparison));
    WriteTerm(condition.left);
    WriteTerm(condition.right);
    out_ += ']';
  }

  // Writes ",term". In post-order the parts of an operation are known before it is, so that each part waits as text.
  void WriteTerm(const Term& term) {
    std::vector<std::string> stack;
    for (const TermNode& node : term) {
      std::string text;
      if (node.kind == TermNode::kNumber) {
        text = std::to_string(node.value);
      } else if (node.kind == TermNode::kSymbol) {
        AppendJsonString(&text, graph_.symbols[static_cast<size_t>(node.value)]);
      } else {
        const std::string right = std::move(stack.back());
        stack.pop_back();
        text = "[\"" + std::string(TextOf(node.kind)) + "\"," + stack.back() + "," + right + "]";
        stack.pop_back();
      }
      stack.push_back(std::move(text));
    }
    out_ += "," + stack.back();
  }

  void WriteQuant(const Quant& quant) {
    Number("{\"bits\":", static_cast<uint64_t>(quant.bits));
    Number(",\"zero_point\":", static_cast<uint64_t>(quant.zero_point));
    Number(",\"qmin\":", static_cast<uint64_t>(quant.qmin));
    Number(",\"qmax\":", static_cast<uint64_t>(quant.qmax));
    if (scales_ == ScaleText::kBits) {
      uint32_t bits;
      std::memcpy(&bits, &quant.scale, sizeof(bits));
      Number(",\"scale_bits\":", bits);
    }
    out_ += '}';
  }

  void WriteConstant(const Constant& constant) {
    static constexpr const char* kTypes[] = {"f32", "i32", "u8", "code"};
    static constexpr const char* kPackings[] = {"none", "nibble", "trit5", "dense", "trit_rans"};
    String("{\"name\":", constant.name);
    String(",\"dtype\":", kTypes[static_cast<int>(constant.type)]);
    List(",\"shape\":", constant.shape, [this](int64_t d) { Number("", static_cast<uint64_t>(d)); });
    if (constant.type == ConstType::kCode) {
      Number(",\"bits\":", static_cast<uint64_t>(constant.bits));
      String(",\"packing\":", kPackings[static_cast<int>(constant.packing)]);
    }
    out_ += '}';
  }

  void WriteValue(const Value& value) {
    String("{\"name\":", value.name);
    String(",\"dtype\":", DTypeName(value.dtype));
    List(",\"shape\":", value.shape, [this](const Dim& dim) {
      switch (dim.kind) {
        case Dim::kFixed:
          return Number("", static_cast<uint64_t>(dim.value));
        case Dim::kSymbol:
          return String("", graph_.symbols[static_cast<size_t>(dim.value)]);
        case Dim::kDerived:
          return String("", "?");
      }
    });
    if (value.dtype == DType::kU8) Number(",\"quant\":", static_cast<uint64_t>(value.quant));
    out_ += '}';
  }

  void WriteNode(const Node& node) {
    const auto append_id = [this](uint32_t id) { Number("", id); };
    String("{\"op\":", node.op);
    String(",\"name\":", node.name);
    List(",\"inputs\":", node.inputs, append_id);
    List(",\"outputs\":", node.outputs, append_id);
    IdMap(",\"constants\":", node.constants);
    out_ += ",\"attrs\":";
    char separator = '{';
    for (const auto& [key, attr] : node.attrs) {
      out_ += separator;
      separator = ',';
      String("", key);
      out_ += ':';
      WriteAttr(attr);
    }
    out_ += node.attrs.empty() ? "{}}" : "}}";
  }

  void WriteAttr(const Attr& attr) {
    if (const uint64_t* number = std::get_if<uint64_t>(&attr)) return Number("", *number);
    if (const std::string* text = std::get_if<std::string>(&attr)) return String("", *text);
    AppendList(&out_, std::get<std::vector<DimOrName>>(attr), [this](const DimOrName& item) {
      if (const uint64_t* number = std::get_if<uint64_t>(&item)) return Number("", *number);
      String("", std::get<std::string>(item));
    });
  }

  void WritePort(const Port& port) {
    String("{\"name\":", port.name);
    Number(",\"value\":", port.value);
    out_ += '}';
  }

  const Graph& graph_;
  const ScaleText scales_;
  std::string out_;
};

}  // namespace

std::string SerializeGraph(const Graph& graph, ScaleText scales) { return GraphWriter(graph, scales).Write(); }

}  // namespace pqi
