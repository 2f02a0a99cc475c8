// The planner: which algorithm runs a convolution or linear layer, and why. Every one gives the same bits, so only time depends on it.
#pragma once

#include <string>

#include "base/isa.h"
#include "base/status.h"
#include "kernels/kernel_set.h"
#include "pack/conv.h"

namespace pqi::plan {

// What the caller of a session may ask for. `algorithm`: "auto", or one that is to run every layer of codes whose shape it fits: "direct",
// "fip" (Winograd's inner product), "deferred", "winograd_1d" (F(2,3) along rows), "winograd_1d4" (F(4,3)), "winograd" (F(2x2,3x3)), each
// of these three also with "_fip" and "_deferred", "winograd_4x4" (F(4x4,3x3)) and "winograd_4x4_deferred". `fip`: "auto" (by the CPU's
// family), "on" or "off"; it rules what "auto" may choose.
struct Options {
  std::string algorithm = "auto";
  std::string fip = "auto";
};
// kInvalidArgument for an unknown name.
Status CheckOptions(const Options& options);

struct Choice {
  std::string executed_as;  // "u8s8-avx512vnni"
  std::string reason;
};

// Arithmetic of a layer: integer, float as stored, or float because its input is float although its weights are codes.
enum class Arithmetic { kInteger, kFloat, kExpandedCodes };

struct CodePlan {
  pack::Algorithm algorithm;
  std::string reason;  // of the algorithm; empty for the direct one where there was no choice
};
// `shape` holds the image that the layer will mostly see (only the time depends on it). kInvalidArgument with the numbers where a forced
// algorithm fits the layer's shape and is not proved exact; kUnsupported where this ISA has no kernel for it.
Result<CodePlan> PlanCodes(const kernels::KernelSet& set, const kernels::ConvShape& shape, const pack::WeightsU8& weights,
                           const Options& options);

// What a packed layer runs as. `why` is the planner's reason.
Choice DescribeConv(const pack::ConvLayout& layout, Isa isa, Arithmetic arithmetic, const std::string& why = "");

}  // namespace pqi::plan
