// pqi verify: the file's stored samples, bit for bit.
#include <cstdio>
#include <cstring>

#include "tools/common.h"

namespace pqi::tools {
namespace {

size_t Differences(const std::vector<uint8_t>& got, const NpyArray& expected) {
  const size_t element = DTypeSize(expected.dtype);
  size_t wrong = 0;
  for (size_t i = 0; i < got.size(); i += element) wrong += std::memcmp(&got[i], &expected.bytes[i], element) != 0;
  return wrong;
}

void Verify(const Options& options) {
  const auto model = Get(Model::Load(options.model));
  const auto session = OpenSession(model, options);
  const Graph& graph = model->graph();
  if (graph.samples.empty()) throw CommandError{"the file holds no samples to verify"};
  size_t wrong = 0, total = 0;
  for (const Sample& sample : graph.samples) {
    std::vector<NpyArray> inputs;
    for (const Port& port : graph.inputs) inputs.push_back(SampleArray(*model, sample.inputs.at(port.name)));
    const RunResult result = RunOnce(session.get(), inputs, options);
    for (size_t i = 0; i < graph.outputs.size(); ++i) {
      const NpyArray expected = SampleArray(*model, sample.outputs.at(graph.outputs[i].name));
      if (result.outputs[i].size() != expected.bytes.size()) throw CommandError{"output " + graph.outputs[i].name + " has another size"};
      wrong += Differences(result.outputs[i], expected);
      total += expected.bytes.size() / DTypeSize(expected.dtype);
    }
  }
  if (wrong)
    throw CommandError{std::to_string(wrong) + " of " + std::to_string(total) + " output elements differ on " + IsaName(session->isa())};
  std::printf("%zu sample%s, %zu output elements: identical on %s\n", graph.samples.size(), graph.samples.size() == 1 ? "" : "s", total,
              IsaName(session->isa()));
}

}  // namespace

void AddVerify(CLI::App* app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app->add_subcommand("verify", "Run the stored samples and compare bits");
  AddModelOption(command, options.get());
  AddSessionOptions(command, options.get());
  command->callback([options] { Verify(*options); });
}

}  // namespace pqi::tools
