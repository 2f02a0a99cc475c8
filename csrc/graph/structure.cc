// Rules about how the parts of a graph refer to each other.
#include <string>
#include <unordered_set>

#include "base/text.h"
#include "graph/parse.h"

namespace pqi {
namespace {

constexpr size_t kMaxSamples = 64;

std::string NodeText(const Node& node) { return "node " + Quoted(node.name) + " (" + node.op + ")"; }

class StructureChecker {
 public:
  explicit StructureChecker(const Graph& graph)
      : graph_(graph), written_(graph.values.size()), used_(graph.values.size()), constant_used_(graph.constants.size()) {}

  Status Check() {
    PQI_RETURN_IF_ERROR(CheckConstantNames());
    PQI_RETURN_IF_ERROR(CheckInputs());
    for (const Node& node : graph_.nodes) PQI_RETURN_IF_ERROR(CheckNode(node));
    PQI_RETURN_IF_ERROR(CheckOutputs());
    PQI_RETURN_IF_ERROR(CheckSamples());
    PQI_RETURN_IF_ERROR(CheckSymbols());
    return CheckEverythingUsed();
  }

 private:
  using Names = std::unordered_set<std::string>;

  static Status Unique(Names* names, const std::string& name, const char* what) {
    if (names->insert(name).second) return {};
    return ModelFormat(std::string("two ") + what + " have the name " + Quoted(name));
  }

  Status ValueInRange(uint32_t id, const std::string& where) const {
    if (id < graph_.values.size()) return {};
    return ModelFormat(where + ": value " + std::to_string(id) + " does not exist, the graph has " + std::to_string(graph_.values.size()));
  }

  Status Write(uint32_t id, const std::string& where) {
    PQI_RETURN_IF_ERROR(ValueInRange(id, where));
    if (written_[id]) return ModelFormat(where + ": value " + std::to_string(id) + " is written twice");
    written_[id] = true;
    return {};
  }

  Status UseConstant(uint32_t id, const std::string& where) {
    if (id >= graph_.constants.size()) {
      return ModelFormat(where + ": constant " + std::to_string(id) + " does not exist, the graph has " +
                         std::to_string(graph_.constants.size()));
    }
    if (graph_.constants[id].name == kActivationScales) return ModelFormat(where + ": 'activation_scales' belongs to the graph alone");
    constant_used_[id] = true;
    return {};
  }

  // activation_scales is there exactly if there are quants, and has one float for each.
  Status CheckConstantNames() {
    Names names;
    bool has_scales = false;
    for (size_t i = 0; i < graph_.constants.size(); ++i) {
      const Constant& constant = graph_.constants[i];
      PQI_RETURN_IF_ERROR(Unique(&names, constant.name, "constants"));
      if (constant.name[0] == '~') return ModelFormat("constant " + Quoted(constant.name) + ": names with '~' are the container's");
      if (constant.name != kActivationScales) continue;
      has_scales = constant_used_[i] = true;
      if (constant.type != ConstType::kF32 || constant.shape != std::vector<int64_t>{static_cast<int64_t>(graph_.quants.size())}) {
        return ModelFormat("'activation_scales' must be f32[" + std::to_string(graph_.quants.size()) + "], one for each quant");
      }
    }
    if (has_scales == !graph_.quants.empty()) return {};
    return ModelFormat(has_scales ? "'activation_scales' without quants" : "the graph has quants but no constant 'activation_scales'");
  }

  Status CheckInputs() {
    Names names;
    if (graph_.inputs.empty()) return ModelFormat("the graph has no inputs");
    for (const Port& input : graph_.inputs) {
      const std::string where = "input " + Quoted(input.name);
      PQI_RETURN_IF_ERROR(Unique(&names, input.name, "inputs"));
      PQI_RETURN_IF_ERROR(Write(input.value, where));
      for (const Dim& dim : graph_.values[input.value].shape) {
        if (dim.kind == Dim::kDerived) return ModelFormat(where + ": '?' in the shape of an input");
      }
    }
    return {};
  }

  Status CheckNode(const Node& node) {
    const std::string where = NodeText(node);
    PQI_RETURN_IF_ERROR(Unique(&node_names_, node.name, "nodes"));
    for (uint32_t id : node.inputs) {
      PQI_RETURN_IF_ERROR(ValueInRange(id, where));
      if (!written_[id]) return ModelFormat(where + ": reads value " + std::to_string(id) + ", which no input or earlier node writes");
      used_[id] = true;
    }
    if (node.outputs.empty()) return ModelFormat(where + ": has no outputs");
    for (uint32_t id : node.outputs) {
      PQI_RETURN_IF_ERROR(Write(id, where));
      for (const Dim& dim : graph_.values[id].shape) {
        if (dim.fixed() && dim.value == 0) return ModelFormat(where + ": an output dimension is 0");
      }
    }
    for (const auto& [key, id] : node.constants) PQI_RETURN_IF_ERROR(UseConstant(id, where + ", constant " + Quoted(key)));
    return {};
  }

  Status CheckOutputs() {
    Names names;
    if (graph_.outputs.empty()) return ModelFormat("the graph has no outputs");
    std::vector<bool> is_input(graph_.values.size());
    for (const Port& input : graph_.inputs) is_input[input.value] = true;
    for (const Port& output : graph_.outputs) {
      const std::string where = "output " + Quoted(output.name);
      PQI_RETURN_IF_ERROR(Unique(&names, output.name, "outputs"));
      PQI_RETURN_IF_ERROR(ValueInRange(output.value, where));
      if (is_input[output.value]) return ModelFormat(where + ": is an input of the graph");
      used_[output.value] = true;
    }
    return {};
  }

  // One constant for each port, of the port's dtype; shapes are compared once all shapes are inferred.
  Status CheckSampleSide(const std::map<std::string, uint32_t>& arrays, const std::vector<Port>& ports, const std::string& where) {
    if (arrays.size() != ports.size()) {
      return ModelFormat(where + ": " + std::to_string(arrays.size()) + " arrays for " + std::to_string(ports.size()) + " names");
    }
    for (const Port& port : ports) {
      const auto array = arrays.find(port.name);
      if (array == arrays.end()) return ModelFormat(where + ": no array for " + Quoted(port.name));
      PQI_RETURN_IF_ERROR(UseConstant(array->second, where + ", " + Quoted(port.name)));
      if (graph_.constants[array->second].type != ConstTypeOf(graph_.values[port.value].dtype)) {
        return ModelFormat(where + ": " + Quoted(port.name) + " must be " + DTypeName(graph_.values[port.value].dtype));
      }
    }
    return {};
  }

  Status CheckSamples() {
    if (graph_.samples.size() > kMaxSamples) return ModelFormat("samples: more than 64");
    for (size_t i = 0; i < graph_.samples.size(); ++i) {
      const std::string where = "samples[" + std::to_string(i) + "]";
      PQI_RETURN_IF_ERROR(CheckSampleSide(graph_.samples[i].inputs, graph_.inputs, where + ".inputs"));
      PQI_RETURN_IF_ERROR(CheckSampleSide(graph_.samples[i].outputs, graph_.outputs, where + ".outputs"));
    }
    return {};
  }

  // A symbol gets its number from an input.
  Status CheckSymbols() {
    std::vector<bool> bound(graph_.symbols.size());
    for (const Port& input : graph_.inputs) {
      for (const Dim& dim : graph_.values[input.value].shape) {
        if (dim.kind == Dim::kSymbol) bound[static_cast<size_t>(dim.value)] = true;
      }
    }
    for (size_t i = 0; i < bound.size(); ++i) {
      if (!bound[i]) return ModelFormat("symbol " + Quoted(graph_.symbols[i]) + " is in the shape of no input");
    }
    return {};
  }

  Status CheckEverythingUsed() const {
    for (size_t i = 0; i < graph_.values.size(); ++i) {
      if (!written_[i]) return ModelFormat("value " + std::to_string(i) + " (" + Quoted(graph_.values[i].name) + ") is written by nothing");
    }
    for (const Node& node : graph_.nodes) {
      for (uint32_t id : node.outputs) {
        if (!used_[id]) return ModelFormat(NodeText(node) + ": nothing uses its output, value " + std::to_string(id));
      }
    }
    for (size_t i = 0; i < graph_.constants.size(); ++i) {
      if (!constant_used_[i]) return ModelFormat("constant " + Quoted(graph_.constants[i].name) + " is used by nothing");
    }
    return {};
  }

  const Graph& graph_;
  std::vector<bool> written_, used_, constant_used_;
  Names node_names_;
};

}  // namespace

Status CheckStructure(const Graph& graph) { return StructureChecker(graph).Check(); }

}  // namespace pqi
