// Files of every released version, with stored inputs and outputs: the same bits on every instruction set and thread count, for ever.
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/runtime/model_builder.h"
#include "tests/twins/twins.h"

namespace pqi::test {
namespace {

std::vector<std::string> GoldenFiles() {
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(PQI_GOLDEN_DIR)) {
    if (entry.path().extension() == ".pqi") files.push_back(entry.path().string());
  }
  return files;
}

TEST(Golden, SamplesGiveTheirStoredOutputs) {
  const std::vector<std::string> files = GoldenFiles();
  ASSERT_FALSE(files.empty());
  for (const std::string& path : files) {
    const auto model = Model::Load(path);
    ASSERT_TRUE(model.ok()) << path << ": " << model.status().message();
    const Graph& graph = model.value()->graph();
    ASSERT_FALSE(graph.samples.empty()) << path;
    for (const TestedSet& set : RunnableSets()) {
      for (int threads : {1, 3}) {
        const auto session = MakeSession(model.value(), threads, *set.set);
        for (const Sample& sample : graph.samples) {
          std::vector<ConcreteShape> shapes;
          std::vector<const void*> inputs;
          for (const Port& port : graph.inputs) {
            const Constant& c = graph.constants[sample.inputs.at(port.name)];
            shapes.push_back(c.shape);
            inputs.push_back(c.bytes.data());
          }
          const RunOutcome got = RunModel(session.get(), shapes, inputs);
          for (size_t i = 0; i < graph.outputs.size(); ++i) {
            const Constant& c = graph.constants[sample.outputs.at(graph.outputs[i].name)];
            EXPECT_EQ(got.outputs[i], std::vector<uint8_t>(c.bytes.begin(), c.bytes.end())) << path << " " << set.name << " " << threads;
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace pqi::test
