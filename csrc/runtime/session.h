// A model made ready for this machine: weights packed for one instruction set, memory planned per input shape.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/fork.h"
#include "base/parallel.h"
#include "base/span.h"
#include "base/status.h"
#include "ops/op.h"
#include "plan/algorithm.h"
#include "runtime/machine.h"
#include "runtime/model.h"
#include "runtime/run_plan.h"

namespace pqi {

struct SessionOptions {
  int threads = 1;                        // from 1 to kMaxThreads
  std::string isa = "auto";               // "auto", or a name of base/isa.h
  plan::Options plan;                     // algorithms of convolutions and linear layers; results do not depend on it
  ArenaReuse reuse = ArenaReuse::kReuse;  // kNoReuse: every value keeps its memory, for checking the memory plan
};

inline constexpr int kMaxThreads = 1024;
inline constexpr size_t kMaxPlans = 16;  // how many shapes a session keeps plans for

// Limits of one run. Neither changes a result.
struct RunOptions {
  // The most that Session::RunBytes may be. 0: no bound.
  size_t max_memory = 0;
  // Asked before each layer, on the caller's thread; true ends the run with kCancelled, and the targets then hold anything.
  bool (*cancelled)(void* context) = nullptr;
  void* context = nullptr;
};

struct LayerInfo {
  std::string name, op;
  int weight_bits = 0;  // 0 for float weights, and for ops without weights
  int act_bits = 0;     // width of input 0 (of the output where there is no input); 0 for float
  std::string executed_as, reason;
  size_t weight_bytes = 0;  // what packed weights and tables take in memory
};

struct MemoryReport {
  size_t weight_bytes = 0;  // packed weights and tables of all layers
  size_t arena_bytes = 0;   // memory of one run by the largest plan so far, its threads' scratch memory included
};

class Session {
 public:
  static Result<std::unique_ptr<Session>> Create(std::shared_ptr<const Model> model, const SessionOptions& options);
  // Makes a session on these kernels, whatever options.isa says. They must outlive it.
  static Result<std::unique_ptr<Session>> Create(std::shared_ptr<const Model> model, const SessionOptions& options, Selection selection);

  ~Session();

  const Model& model() const { return *model_; }
  Isa isa() const { return selection_.kernels->isa; }
  // Empty, or why the kernels are not those of the instruction set asked for (runtime/machine.h).
  const std::string& warning() const { return selection_.warning; }
  int threads() const { return options_.threads; }

  // Plans are kept for the kMaxPlans shapes used last, and finding one allocates nothing. kInvalidArgument if the shapes do not fit the
  // model.
  Result<std::shared_ptr<const RunPlan>> PlanFor(Span<const Span<const int64_t>> inputs);
  Result<std::shared_ptr<const RunPlan>> PlanFor(Span<const ConcreteShape> inputs);

  // The bytes that a run takes which gives the targets' values (their `data` is not looked at): the arena, scratch memory of threads,
  // inputs and these values.
  size_t RunBytes(const RunPlan& plan, Span<const Target> targets) const;
  // kNoMemory if those are more than options.max_memory. Callers ask before they take memory for the values; Run asks as well.
  Status CheckMemory(const RunPlan& plan, Span<const Target> targets, const RunOptions& options) const;

  // Runs the graph. `inputs` are in the order of the graph's inputs; `targets` are any values that nodes or the caller write, graph outputs
  // or not. Both may have any alignment; targets must not overlap inputs or each other. Any number of threads may run one session at once.
  // The caller's floating-point mode neither matters nor changes. `node_ms`, if not empty, gets the time of each node. The memory of a run
  // is kept for the next: a run whose plan was run before, by as many callers at once, allocates nothing.
  //
  // Other threads may change the inputs meanwhile: then results may be anything, but no memory is touched that is not the run's. Inputs
  // whose values are held to limits (codes of fewer than 256 values, indices) are copied first, and the copy is held to them.
  Status Run(const RunPlan& plan, Span<const void* const> inputs, Span<const Target> targets, const RunOptions& options = {},
             Span<double> node_ms = {});

  // Gives the median milliseconds of each node over `repeat` >= 1 runs.
  Result<std::vector<double>> Profile(const RunPlan& plan, Span<const void* const> inputs, int repeat, const RunOptions& options = {});

  // One entry per node.
  std::vector<LayerInfo> Layers() const;
  MemoryReport Memory();

 private:
  struct Context;
  // State that runs share and change, under a mutex that is held for a few pointer moves only.
  struct Shared;
  class Lease;

  Session(std::shared_ptr<const Model> model, const SessionOptions& options, Selection selection);
  Status Prepare();
  Status PrepareNode(const Node& node);
  // Holds the values of an input to their limits: codes to those of their quant, indices to the rows of their tables.
  Status CheckValues(const Port& port, const void* data, size_t bytes) const;
  Status Execute(const RunPlan& plan, Context* context, const RunOptions& options, Span<double> node_ms) const;

  std::shared_ptr<const Model> model_;
  SessionOptions options_;
  Selection selection_;
  std::vector<std::unique_ptr<ops::Step>> steps_;    // in the order of nodes
  std::vector<uint64_t> views_;                      // in the order of nodes (runtime/views.h)
  std::vector<int64_t> index_limit_;                 // by value id: rows of the smallest table that an input of indices reaches
  std::vector<std::optional<ops::Lookup>> lookups_;  // by node: what is checked before it runs
  std::vector<uint8_t> checked_;                     // by input: whether its values are held to limits
  mutable ThreadPool pool_;
  std::unique_ptr<ForkLocal<Shared>> shared_;
};

}  // namespace pqi
