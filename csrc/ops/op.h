// An op of the engine: its schema row (graph/op_def.h) and how a session makes a node of it run.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>

#include "base/isa.h"
#include "base/parallel.h"
#include "base/status.h"
#include "graph/op_def.h"
#include "kernels/kernel_set.h"
#include "plan/algorithm.h"

namespace pqi::ops {

// A value during a run: row-major, dense (but see RunArgs::out_stride), at least 4-byte aligned where it holds f32 or i32.
struct Operand {
  void* data = nullptr;
  const ConcreteShape* shape = nullptr;

  const uint8_t* u8() const { return static_cast<const uint8_t*>(data); }
  const float* f32() const { return static_cast<const float*>(data); }
  const int32_t* i32() const { return static_cast<const int32_t*>(data); }
  uint8_t* mutable_u8() const { return static_cast<uint8_t*>(data); }
  float* mutable_f32() const { return static_cast<float*>(data); }
  int64_t dim(size_t i) const { return (*shape)[i]; }
  int64_t count() const {
    int64_t n = 1;
    for (int64_t d : *shape) n *= d;
    return n;  // proved small when the shapes were inferred
  }
};

inline constexpr size_t kMaxInputs = 64;

struct RunArgs {
  Operand in[kMaxInputs];
  Operand out;
  // Distance in elements from one row of `out` (its last dimension) to the next. It is more than a row only for a step that spaces rows,
  // and only if there are several; the step does not write what lies between them.
  int64_t out_stride = 0;
  uint8_t* scratch = nullptr;  // the memory that Scratch divides into parts
  size_t scratch_stride = 0;
  ThreadPool* pool = nullptr;
  Span<const int64_t> numbers;  // of the graph's symbols and sizes in this run

  // Gives Step::ScratchBytes bytes for part `part` < pool->threads(), 64-byte aligned. All layers of a session get the same memory for a
  // part, so that it stays in the caches of the thread that computes these parts.
  uint8_t* Scratch(int64_t part) const { return scratch + static_cast<size_t>(part) * scratch_stride; }
};

// What a session reports about a node.
struct StepInfo {
  std::string executed_as;  // the kernels that run it: "u8s8-avx512vnni", "f32-avx2", "reference"
  std::string reason;       // why the planner chose it
  size_t weight_bytes = 0;  // what packed weights and tables take in memory
  int act_bits = 0;         // width of the codes that the step makes of a float input itself
};

// Describes an output that holds inputs as they are, behind each other along `axis`. A node may find those of `inputs` there already:
// in.data is then that place in out.data.
struct Joint {
  bool whole = false;  // input 0 takes up all of the output, in rows of its own shape; `axis` is then 0
  size_t axis = 0;
  uint64_t inputs = 0;  // bit i stands for input i
};
static_assert(kMaxInputs <= 64, "Joint::inputs has a bit for each");

// Says which integers a step looks elements up by: those of input `input`, which lie in [0, limit), or, where limit is 0, below the length
// of axis `axis` of input 0.
struct Lookup {
  size_t input = 0;
  int64_t limit = 0;
  size_t axis = 0;
};

// A node made ready for one ISA: weights packed, tables built. Immutable, so any number of threads may run it at once.
class Step {
 public:
  virtual ~Step() = default;
  // How much scratch memory one thread needs in a run with these shapes.
  virtual size_t ScratchBytes(const ConcreteShape& in, const ConcreteShape& out) const {
    (void)in, (void)out;
    return 0;
  }
  // Computes the output, which is never empty. Must not allocate.
  virtual void Run(const RunArgs& args) const noexcept = 0;
  // What the step looks up by integers. A session holds them to their limit: those of a caller before any step runs where it is known
  // then, others before this step runs.
  virtual std::optional<Lookup> lookup() const { return std::nullopt; }
  // Whether there may be other elements between the rows of the output (RunArgs::out_stride).
  virtual bool SpacesRows() const { return false; }
  virtual Joint joint() const { return {}; }
  // Tells the step before the first run which inputs of its joint will be in place, unless a caller asks for one of them.
  virtual void ExpectInPlace(uint64_t inputs) { (void)inputs; }

  const StepInfo& info() const { return info_; }

 protected:
  StepInfo info_;
};

struct PrepareContext {
  const NodeView& view;
  const kernels::KernelSet& kernels;  // those of the session's ISA
  const plan::Options& plan;
};

// The `prepare` of an op whose step is made from the node, and from the session's kernels where it runs any.
template <typename S>
Result<std::unique_ptr<Step>> PrepareStep(const PrepareContext& context) {
  if constexpr (std::is_constructible_v<S, const NodeView&, const kernels::KernelSet&>) {
    return std::unique_ptr<Step>(std::make_unique<S>(context.view, context.kernels));
  } else {
    return std::unique_ptr<Step>(std::make_unique<S>(context.view));
  }
}

struct Op {
  OpDef def;
  Result<std::unique_ptr<Step>> (*prepare)(const PrepareContext& context);
  // Counts the multiply-accumulates of one node for concrete shapes; nullptr for an op that has none.
  int64_t (*macs)(const NodeView& view, const ConcreteShape& in, const ConcreteShape& out);
};

// Finds an op by name; nullptr if there is none.
const Op* FindOp(const std::string& name);
// Finds an op's schema row by name: the OpLookup of the graph layer.
const OpDef* FindOpDef(const std::string& name);
// Every op, in the order of docs/format.md.
Span<const Op* const> AllOps();

}  // namespace pqi::ops
