// The planner: which algorithm runs a convolution or linear layer, and why. Every one gives the same bits, so only time depends on it.
#pragma once

#include <string>

#include "base/status.h"
#include "conv/layout.h"
#include "kernels/kernel_set.h"
#include "pack/weights.h"

namespace pqi::plan {

// What the caller of a session may ask for.
//
// `algorithm` is "auto", "direct", or the name of an alternative (conv/method.h) that is to run every layer of codes whose shape it fits.
// `fip` is "auto" (by the CPU's family), "on" or "off", and rules what "auto" may choose.
struct Options {
  std::string algorithm = "auto";
  std::string fip = "auto";
};
// kInvalidArgument for an unknown name.
Status CheckOptions(const Options& options);

struct CodePlan {
  conv::Algorithm algorithm;
  std::string reason;  // why this algorithm; empty where the layer runs the direct way and there was no choice
};
// `shape` holds the image that the layer will mostly see; only the time depends on it. kInvalidArgument with the numbers where a forced
// algorithm fits the layer's shape and is not proved exact; kUnsupported where this ISA has no kernel for it.
Result<CodePlan> PlanCodes(const kernels::KernelSet& set, const kernels::ConvShape& shape, const pack::WeightsU8& weights,
                           const Options& options);

// How many groups of a convolution are best made one (pack/merge_groups.h): 1 for those that are wide enough. Narrow groups leave most of a
// kernel's lanes without a channel, which zeros between groups fill at no cost. Only the shape of the weights is read.
int64_t GroupsToMerge(const kernels::KernelSet& set, const kernels::ConvShape& shape, const pack::WeightsU8& weights);

}  // namespace pqi::plan
