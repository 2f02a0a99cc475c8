// pqi inspect: what is in a file and how this machine would run it.
#include <cstdio>

#include "base/text.h"
#include "graph/shapes.h"
#include "ops/op.h"
#include "tools/common.h"

namespace pqi::tools {
namespace {

void PrintPorts(const Graph& graph, const char* kind, const std::vector<Port>& ports) {
  for (const Port& port : ports) {
    const Value& value = graph.values[port.value];
    std::printf("%s %s: %s %s\n", kind, port.name.c_str(), DTypeName(value.dtype), ShapeText(graph, value.shape).c_str());
  }
}

size_t StoredBytes(const Graph& graph, const Node& node) {
  size_t bytes = 0;
  for (const auto& [key, id] : node.constants) bytes += graph.constants[id].bytes.size();
  return bytes;
}

std::string BitsText(int bits) { return bits ? std::to_string(bits) : "f32"; }

void PrintLayers(const Session& session, const std::vector<ConcreteShape>& shapes) {
  const Graph& graph = session.model().graph();
  const std::vector<LayerInfo> layers = session.Layers();
  std::vector<std::vector<std::string>> rows;
  double total = 0;
  for (size_t i = 0; i < layers.size(); ++i) {
    const Node& node = graph.nodes[i];
    const ops::Op* op = ops::FindOp(node.op);
    const int64_t macs = op->macs ? op->macs({graph, node}, shapes[node.inputs[0]], shapes[node.outputs[0]]) : 0;
    total += static_cast<double>(macs);
    const size_t stored = StoredBytes(graph, node);
    rows.push_back({layers[i].name, layers[i].op, DimsText(shapes[node.outputs[0]]), macs ? BitsText(layers[i].weight_bits) : "",
                    BitsText(layers[i].act_bits), macs ? Fixed(static_cast<double>(macs) * 1e-6, 2) : "",
                    stored ? std::to_string(stored) : "", layers[i].executed_as, layers[i].reason});
  }
  PrintTable({"layer", "op", "output", "w", "a", "MMACs", "bytes", "executed as", "why"}, rows,
             {false, false, false, true, true, true, true, false, false});
  std::printf("%.2f million multiply-accumulates\n", total * 1e-6);
}

void PrintValues(const Graph& graph) {
  std::vector<std::vector<std::string>> rows;
  for (const Value& value : graph.values) {
    std::vector<std::string> row{value.name, DTypeName(value.dtype), ShapeText(graph, value.shape), "", "", "", ""};
    if (value.dtype == DType::kU8) {
      const Quant& q = graph.quants[static_cast<size_t>(value.quant)];
      char scale[32];
      std::snprintf(scale, sizeof scale, "%.9g", static_cast<double>(q.scale));
      row[3] = std::to_string(q.bits);
      row[4] = scale;
      row[5] = std::to_string(q.zero_point);
      row[6] = std::to_string(q.qmin) + ".." + std::to_string(q.qmax);
    }
    rows.push_back(row);
  }
  PrintTable({"value", "dtype", "shape", "bits", "scale", "zero", "codes"}, rows, {false, false, false, true, true, true, true});
}

struct InspectOptions : Options {
  bool values = false;
};

void Inspect(const InspectOptions& options) {
  const auto model = Get(Model::Load(options.model));
  const Graph& graph = model->graph();
  std::printf("%s: %zu bytes, %zu nodes, %zu constants, written by %s\n", options.model.c_str(), model->bytes().size(), graph.nodes.size(),
              graph.constants.size(), Quoted(model->producer()).c_str());
  PrintPorts(graph, "input", graph.inputs);
  PrintPorts(graph, "output", graph.outputs);
  if (options.values) PrintValues(graph);
  const auto session = OpenSession(model, options);
  PrintLayers(*session, Get(model->Shapes(InputShapes(*model, options))));
  std::printf("packed for %s: %zu bytes\n", IsaName(session->isa()), session->Memory().weight_bytes);
}

}  // namespace

void AddInspect(CLI::App* app) {
  auto options = std::make_shared<InspectOptions>();
  CLI::App* command = app->add_subcommand("inspect", "Show inputs, outputs, layers, bits, bytes and MACs");
  AddModelOption(command, options.get());
  AddShapeOption(command, options.get());
  AddSessionOptions(command, options.get());
  command->add_flag("--values", options->values, "Also every value with its shape and quantization");
  command->callback([options] { Inspect(*options); });
}

}  // namespace pqi::tools
