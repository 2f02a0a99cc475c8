#include "tools/common.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <map>

#include "base/text.h"
#include "graph/constants.h"

namespace pqi::tools {
namespace {

// Divides items of the form "name=rest", by name.
std::map<std::string, std::string> SplitItems(const Model& model, const std::vector<std::string>& items, const char* option) {
  std::map<std::string, std::string> out;
  for (const std::string& item : items) {
    const size_t at = item.find('=');
    if (at == std::string::npos) throw CommandError{std::string(option) + " " + item + ": expected name=value"};
    const std::string name = item.substr(0, at);
    if (model.InputIndex(name) < 0) {
      std::string names;
      for (const Port& port : model.graph().inputs) names += " " + port.name;
      throw CommandError{std::string(option) + ": no input named " + Quoted(name) + "; the model's inputs are" + names};
    }
    out[name] = item.substr(at + 1);
  }
  return out;
}

ConcreteShape ParseDims(const std::string& text) {
  ConcreteShape shape;
  size_t at = 0;
  while (at <= text.size()) {
    const size_t end = std::min(text.find(',', at), text.size());
    const std::string number = text.substr(at, end - at);
    if (number.empty() || number.size() > 10 || number.find_first_not_of("0123456789") != std::string::npos) {
      throw CommandError{"--shape: expected numbers like 1,3,224,224, got " + text};
    }
    shape.push_back(std::stoll(number));
    at = end + 1;
  }
  return shape;
}

}  // namespace

void AddModelOption(CLI::App* command, Options* options) { command->add_option("model", options->model, "A .pqi file")->required(); }

void AddSessionOptions(CLI::App* command, Options* options) {
  command->add_option("--threads", options->threads, "Threads; results do not depend on it")->capture_default_str();
  command->add_option("--isa", options->isa, "Instruction set; results do not depend on it")->capture_default_str();
  command->add_option("--algorithm", options->algorithm, "auto, direct, winograd, ...; results do not depend on it")->capture_default_str();
  command->add_option("--fip", options->fip, "Winograd's inner product: auto, on or off")->capture_default_str();
  command->add_option("--max-memory", options->max_memory_mib, "MiB that a run may take; default: three quarters of the machine's memory")
      ->check(CLI::Range(uint64_t{1}, uint64_t{1} << 43));
}

void AddInputOption(CLI::App* command, Options* options) {
  command->add_option("--input", options->inputs, "name=file.npy, once per input");
}

void AddShapeOption(CLI::App* command, Options* options) {
  command->add_option("--shape", options->shapes, "name=1,3,224,224, for inputs whose shape is open");
}

std::unique_ptr<Session> OpenSession(const std::shared_ptr<const Model>& model, const Options& options) {
  SessionOptions chosen;
  chosen.threads = options.threads;
  chosen.isa = options.isa;
  chosen.plan = {options.algorithm, options.fip};
  std::unique_ptr<Session> session = Get(Session::Create(model, chosen));
  if (!session->warning().empty()) std::fprintf(stderr, "pqi: warning: %s\n", session->warning().c_str());
  return session;
}

std::vector<ConcreteShape> InputShapes(const Model& model, const Options& options) {
  const auto given = SplitItems(model, options.shapes, "--shape");
  std::vector<ConcreteShape> out;
  for (const Port& port : model.graph().inputs) {
    const auto it = given.find(port.name);
    if (it != given.end()) {
      out.push_back(ParseDims(it->second));
      continue;
    }
    ConcreteShape shape;
    for (const Dim& d : model.graph().values[port.value].shape) {
      if (!d.fixed() && !shape.empty())
        throw CommandError{"the shape of input " + Quoted(port.name) + " is open: give --shape " + port.name + "=..."};
      shape.push_back(d.fixed() ? d.value : 1);
    }
    out.push_back(shape);
  }
  return out;
}

std::vector<NpyArray> ReadInputs(const Model& model, const Options& options) {
  const auto given = SplitItems(model, options.inputs, "--input");
  std::vector<NpyArray> out;
  if (given.empty()) return out;
  for (const Port& port : model.graph().inputs) {
    const auto it = given.find(port.name);
    if (it == given.end()) throw CommandError{"input " + Quoted(port.name) + " is missing: give --input " + port.name + "=file.npy"};
    NpyArray array = Get(ReadNpy(it->second));
    const DType expected = model.graph().values[port.value].dtype;
    if (array.dtype != expected) {
      throw CommandError{"input " + Quoted(port.name) + ": expected " + DTypeName(expected) + ", got " + DTypeName(array.dtype)};
    }
    out.push_back(std::move(array));
  }
  return out;
}

RunOptions LimitsOf(const Options& options) {
  RunOptions limits;
  limits.max_memory = options.max_memory_mib != 0
                          ? options.max_memory_mib << 20
                          : static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) / 4 * 3 * static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return limits;
}

RunResult RunOnce(Session* session, const std::vector<NpyArray>& inputs, const Options& options) {
  const Graph& graph = session->model().graph();
  std::vector<ConcreteShape> shapes;
  std::vector<const void*> data;
  for (const NpyArray& array : inputs) {
    shapes.push_back(array.shape);
    data.push_back(array.bytes.data());
  }
  RunResult result;
  result.plan = Get(session->PlanFor(shapes));
  std::vector<Target> targets;
  for (const Port& port : graph.outputs) targets.push_back({port.value, nullptr});
  const RunOptions limits = LimitsOf(options);
  Get(session->CheckMemory(*result.plan, targets, limits));
  result.outputs.resize(graph.outputs.size());
  for (size_t i = 0; i < graph.outputs.size(); ++i) {
    const uint32_t value = graph.outputs[i].value;
    size_t bytes = DTypeSize(graph.values[value].dtype);
    for (int64_t d : result.plan->shapes[value]) bytes *= static_cast<size_t>(d);
    result.outputs[i].resize(bytes);
    targets[i].data = result.outputs[i].data();
  }
  Get(session->Run(*result.plan, data, targets, limits));
  return result;
}

NpyArray SampleArray(const Model& model, uint32_t constant) {
  const Constant& c = model.graph().constants[constant];
  NpyArray array;
  array.dtype = c.type == ConstType::kF32 ? DType::kF32 : c.type == ConstType::kU8 ? DType::kU8 : DType::kI32;
  array.shape = c.shape;
  array.bytes.assign(c.bytes.begin(), c.bytes.end());
  return array;
}

void PrintTable(const std::vector<std::string>& head, const std::vector<std::vector<std::string>>& rows, const std::vector<bool>& numeric) {
  std::vector<size_t> width;
  for (size_t c = 0; c < head.size(); ++c) {
    width.push_back(head[c].size());
    for (const auto& row : rows) width[c] = std::max(width[c], row[c].size());
  }
  const auto print = [&](const std::vector<std::string>& row) {
    std::string line;
    for (size_t c = 0; c < row.size(); ++c) {
      const std::string pad(width[c] - row[c].size(), ' ');
      line += numeric[c] ? pad + row[c] : row[c] + pad;
      line += "  ";
    }
    line.erase(line.find_last_not_of(' ') + 1);
    std::printf("%s\n", line.c_str());
  };
  print(head);
  for (const auto& row : rows) print(row);
}

std::string Fixed(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

}  // namespace pqi::tools
