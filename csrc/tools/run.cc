// pqi run: inputs from .npy files to outputs in .npy files.
#include <cstdio>

#include "base/text.h"
#include "tools/common.h"

namespace pqi::tools {
namespace {

struct RunCommand : Options {
  std::string output;
};

// Port names are torch's and may hold anything; a file name may not.
std::string FileName(const std::string& name) {
  std::string out;
  for (char c : name) out += (c == '/' || c == '\\' || c == '\0') ? '_' : c;
  return out + ".npy";
}

void Run(const RunCommand& options) {
  const auto model = Get(Model::Load(options.model));
  const auto session = OpenSession(model, options);
  const Graph& graph = model->graph();
  std::vector<NpyArray> inputs = ReadInputs(*model, options);
  if (inputs.empty()) {
    if (graph.samples.empty()) throw CommandError{"give --input name=file.npy: the file holds no sample inputs"};
    for (const Port& port : graph.inputs) inputs.push_back(SampleArray(*model, graph.samples[0].inputs.at(port.name)));
    std::fprintf(stderr, "no --input: running the file's first sample\n");
  }
  const RunResult result = RunOnce(session.get(), inputs, options);
  for (size_t i = 0; i < graph.outputs.size(); ++i) {
    const Port& port = graph.outputs[i];
    const DType dtype = graph.values[port.value].dtype;
    const ConcreteShape& shape = result.plan->shapes[port.value];
    std::printf("%s: %s %s", port.name.c_str(), DTypeName(dtype), DimsText(shape).c_str());
    if (!options.output.empty()) {
      const std::string path = options.output + "/" + FileName(port.name);
      Get(WriteNpy(path, dtype, shape, {result.outputs[i].data(), result.outputs[i].size()}));
      std::printf(" -> %s", path.c_str());
    }
    std::printf("\n");
  }
}

}  // namespace

void AddRun(CLI::App* app) {
  auto options = std::make_shared<RunCommand>();
  CLI::App* command = app->add_subcommand("run", "Run a model on .npy inputs");
  AddModelOption(command, options.get());
  AddInputOption(command, options.get());
  command->add_option("--output", options->output, "Folder for one .npy per output")->check(CLI::ExistingDirectory);
  AddSessionOptions(command, options.get());
  command->callback([options] { Run(*options); });
}

}  // namespace pqi::tools
