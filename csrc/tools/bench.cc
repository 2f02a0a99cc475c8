// pqi bench: latency of a model, and of its layers.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <random>

#include "ops/op.h"
#include "tools/common.h"

namespace pqi::tools {
namespace {

struct BenchOptions : Options {
  int repeat = 50;
  bool layers = false;
};

// Draws normal numbers, or codes over the whole range, which are the same in every run.
NpyArray RandomArray(const Graph& graph, const Value& value, const ConcreteShape& shape) {
  NpyArray array;
  array.dtype = value.dtype;
  array.shape = shape;
  size_t count = 1;
  for (int64_t d : shape) count *= static_cast<size_t>(d);
  array.bytes.resize(count * DTypeSize(value.dtype));
  std::mt19937 random(1);
  if (value.dtype == DType::kU8) {
    const Quant& q = graph.quants[static_cast<size_t>(value.quant)];
    std::uniform_int_distribution<int> code(q.qmin, q.qmax);
    for (uint8_t& b : array.bytes) b = static_cast<uint8_t>(code(random));
  } else if (value.dtype == DType::kF32) {  // indices stay 0: every table has such a row
    std::normal_distribution<float> normal;
    for (size_t i = 0; i < count; ++i) {
      const float x = normal(random);
      std::memcpy(array.bytes.data() + i * sizeof x, &x, sizeof x);
    }
  }
  return array;
}

void PrintLayers(Session* session, const RunPlan& plan, const std::vector<const void*>& data, int repeat) {
  const Graph& graph = session->model().graph();
  const std::vector<double> ms = Get(session->Profile(plan, data, repeat));
  const std::vector<LayerInfo> layers = session->Layers();
  double total = 0;
  for (double t : ms) total += t;
  std::vector<std::vector<std::string>> rows;
  for (size_t i = 0; i < layers.size(); ++i) {
    const Node& node = graph.nodes[i];
    const ops::Op* op = ops::FindOp(node.op);
    const int64_t macs = op->macs ? op->macs({graph, node}, plan.shapes[node.inputs[0]], plan.shapes[node.outputs[0]]) : 0;
    rows.push_back({layers[i].name, layers[i].op, layers[i].executed_as, Fixed(ms[i], 4), Fixed(100 * ms[i] / total, 1),
                    macs ? Fixed(static_cast<double>(macs) / ms[i] * 1e-6, 1) : ""});
  }
  PrintTable({"layer", "op", "executed as", "ms", "%", "GMAC/s"}, rows, {false, false, false, true, true, true});
}

void Bench(const BenchOptions& options) {
  if (options.repeat < 1) throw CommandError{"--repeat must be at least 1"};
  const auto model = Get(Model::Load(options.model));
  const auto session = OpenSession(model, options);
  const Graph& graph = model->graph();
  std::vector<NpyArray> inputs = ReadInputs(*model, options);
  if (inputs.empty()) {
    const std::vector<ConcreteShape> shapes = InputShapes(*model, options);
    Get(session->CheckMemory(*Get(session->PlanFor(shapes)), {}, LimitsOf(options)));  // before the inputs are made
    for (size_t i = 0; i < shapes.size(); ++i) inputs.push_back(RandomArray(graph, graph.values[graph.inputs[i].value], shapes[i]));
  }
  RunResult warm;
  for (int i = 0; i < 3; ++i) warm = RunOnce(session.get(), inputs, options);
  std::vector<const void*> data;
  for (const NpyArray& array : inputs) data.push_back(array.bytes.data());
  std::vector<Target> targets;
  for (size_t i = 0; i < graph.outputs.size(); ++i) targets.push_back({graph.outputs[i].value, warm.outputs[i].data()});
  std::vector<double> ms;
  for (int i = 0; i < options.repeat; ++i) {
    const auto start = std::chrono::steady_clock::now();
    Get(session->Run(*warm.plan, data, targets));
    ms.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
  }
  std::sort(ms.begin(), ms.end());
  const auto at = [&](double share) { return ms[static_cast<size_t>(share * static_cast<double>(ms.size() - 1) + 0.5)]; };
  if (options.layers) PrintLayers(session.get(), *warm.plan, data, options.repeat);
  std::printf("%s, %d thread%s, %d runs: p50 %.3f ms, p90 %.3f ms, min %.3f ms\n", IsaName(session->isa()), session->threads(),
              session->threads() == 1 ? "" : "s", options.repeat, at(0.5), at(0.9), ms[0]);
}

}  // namespace

void AddBench(CLI::App* app) {
  auto options = std::make_shared<BenchOptions>();
  CLI::App* command = app->add_subcommand("bench", "Measure latency on random or given inputs");
  AddModelOption(command, options.get());
  AddInputOption(command, options.get());
  AddShapeOption(command, options.get());
  AddSessionOptions(command, options.get());
  command->add_option("--repeat", options->repeat, "Runs measured")->capture_default_str();
  command->add_flag("--layers", options->layers, "Also the time of each layer");
  command->callback([options] { Bench(*options); });
}

}  // namespace pqi::tools
