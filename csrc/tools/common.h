// Code that the commands of pqi share: options, inputs from files or samples, tables.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

#include "runtime/model.h"
#include "runtime/session.h"
#include "tools/npy.h"

namespace pqi::tools {

struct Options {
  std::string model;
  int threads = 1;
  std::string isa = "auto";
  std::string algorithm = "auto", fip = "auto";
  std::vector<std::string> inputs;  // each is name=file.npy
  std::vector<std::string> shapes;  // each is name=1,3,224,224
  uint64_t max_memory_mib = 0;      // 0: three quarters of the machine's memory
};

void AddModelOption(CLI::App* command, Options* options);
void AddSessionOptions(CLI::App* command, Options* options);
void AddInputOption(CLI::App* command, Options* options);
void AddShapeOption(CLI::App* command, Options* options);

// Commands report by throwing: main prints the message and exits with 1.
struct CommandError {
  std::string message;
};
template <typename T>
T Get(Result<T> result) {
  if (!result.ok()) throw CommandError{result.status().message()};
  return std::move(result).value();
}
inline void Get(const Status& status) {
  if (!status.ok()) throw CommandError{status.message()};
}

std::unique_ptr<Session> OpenSession(const std::shared_ptr<const Model>& model, const Options& options);

// Gives concrete input shapes: those given with --shape, else the model's with every open dimension of the batch (the first) 1.
std::vector<ConcreteShape> InputShapes(const Model& model, const Options& options);

// Reads the arrays of --input and checks each against the model's inputs; all or none may be given. Empty if none is.
std::vector<NpyArray> ReadInputs(const Model& model, const Options& options);

// The outputs of one run, and the plan that says their shapes.
struct RunResult {
  std::shared_ptr<const RunPlan> plan;
  std::vector<std::vector<uint8_t>> outputs;  // in the model's order
};
RunResult RunOnce(Session* session, const std::vector<NpyArray>& inputs, const Options& options);

// The limits of each run: a file may ask for any amount of memory, so the tools have a bound where the library has none.
RunOptions LimitsOf(const Options& options);

// Gives a stored sample's constant as an array.
NpyArray SampleArray(const Model& model, uint32_t constant);

// Prints columns padded to their widest cell; `numeric` columns are set to the right.
void PrintTable(const std::vector<std::string>& head, const std::vector<std::vector<std::string>>& rows, const std::vector<bool>& numeric);

std::string Fixed(double value, int digits);

// Each of these adds one command to the program.
void AddRun(CLI::App* app);
void AddBench(CLI::App* app);
void AddVerify(CLI::App* app);
void AddInspect(CLI::App* app);

}  // namespace pqi::tools
