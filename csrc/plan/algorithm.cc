#include "plan/algorithm.h"

#include <algorithm>
#include <cstdio>
#include <limits>
#include <optional>
#include <vector>

#include "base/cpu_family.h"
#include "base/text.h"
#include "conv/exact.h"
#include "conv/method.h"
#include "pack/arrange.h"
#include "pack/merge_groups.h"
#include "plan/cost.h"

namespace pqi::plan {
namespace {

using conv::Algorithm;
using conv::Product;

struct Candidate {
  const conv::Alternative* alternative;
  const conv::Alternatives* of;  // how the method answers for it

  const std::string& name() const { return alternative->name; }
  const Algorithm& algorithm() const { return alternative->algorithm; }
};

// The alternatives of all methods, those of the most preferred method last.
const std::vector<Candidate>& AllCandidates() {
  static const std::vector<Candidate> all = [] {
    std::vector<Candidate> out;
    const auto methods = conv::AllMethods();
    for (size_t i = methods.size(); i-- > 0;) {
      if (methods[i]->alternatives == nullptr) continue;
      for (const conv::Alternative& a : methods[i]->alternatives->list()) out.push_back({&a, methods[i]->alternatives});
    }
    return out;
  }();
  return all;
}

// Does a reader learn from it why a layer runs the direct way? A refusal that a combination shares with its parts says nothing new.
bool Telling(const Algorithm& a) { return (a.filter != nullptr) == (a.product == Product::kDot); }

// Does "auto" consider it?
bool Allowed(const Algorithm& a, const std::string& fip) {
  if (a.product != Product::kInnerProduct || fip == "on") return true;
  return fip == "auto" && CpuAddsBesideDots();
}

std::string Times(double ratio) {
  char text[32];
  std::snprintf(text, sizeof text, ", estimated %.2fx direct", ratio);
  return text;
}

// Estimated cycles of a layer on a kernel set.
class Estimate {
 public:
  // fip "on" asks for the choices of a CPU that adds beside its dot products.
  Estimate(const kernels::KernelSet& set, const kernels::ConvShape& shape, const pack::WeightsU8& weights, const std::string& fip)
      : set_(set), shape_(shape), weights_(weights), two_dot_ports_(fip != "on" && CpuHasTwoDotPorts()) {}

  double operator()(const Algorithm& algorithm) const {
    return EstimateCycles(set_.isa, two_dot_ports_, shape_, conv::LayoutConvU8(set_, shape_, weights_, algorithm));
  }

 private:
  const kernels::KernelSet& set_;
  const kernels::ConvShape& shape_;
  const pack::WeightsU8& weights_;
  bool two_dot_ports_;
};

// The fastest of the algorithms that are allowed and exact.
CodePlan Choose(const kernels::KernelSet& set, const conv::Request& layer, const Options& options) {
  CodePlan best;
  std::optional<conv::CodeRanges> ranges;  // found for the first proof: many a layer suits no alternative
  const Estimate estimate(set, layer.shape, *layer.codes, options.fip);
  const double direct = estimate({});
  double least = direct;
  std::string refused;
  for (const Candidate& c : AllCandidates()) {
    if (!Allowed(c.algorithm(), options.fip) || !c.of->has_kernels(set, c.algorithm())) continue;
    conv::Request request = layer;
    request.algorithm = c.algorithm();
    if (!c.of->misfit(request).empty()) continue;
    if (!ranges) ranges = conv::FindRanges(layer.shape, *layer.codes);
    const conv::Proof proof = c.of->prove(request, *ranges);
    if (!proof.exact) {
      if (Telling(c.algorithm())) refused = "not " + c.name() + ": " + proof.numbers;
      continue;
    }
    request.algorithm.depth = proof.depth;
    const double cycles = estimate(request.algorithm);
    if (cycles >= least) continue;
    least = cycles;
    best.algorithm = request.algorithm;
    best.reason = c.name() + " is exact (" + proof.numbers + ")" + Times(direct / cycles);
  }
  if (best.reason.empty()) best.reason = refused;
  return best;
}

// The algorithm that the caller asked for, or the direct way where the layer's shape does not suit it.
Result<CodePlan> Force(const kernels::KernelSet& set, const conv::Request& layer, const Options& options, const Candidate& c) {
  if (!c.of->has_kernels(set, c.algorithm())) {
    return Unsupported("algorithm " + c.name() + ": " + IsaName(set.isa) + " has no kernel for it");
  }
  CodePlan plan;
  conv::Request request = layer;
  request.algorithm = c.algorithm();
  const std::string misfit = c.of->misfit(request);
  if (!misfit.empty()) {
    plan.reason = "not " + c.name() + ": " + misfit;
    return plan;
  }
  const conv::Proof proof = c.of->prove(request, conv::FindRanges(layer.shape, *layer.codes));
  if (!proof.exact) return InvalidArgument("algorithm " + c.name() + " is not exact here: " + proof.numbers);
  plan.algorithm = request.algorithm;
  plan.algorithm.depth = proof.depth;
  plan.reason = c.name() + " is exact (" + proof.numbers + ")";
  if (IsaHasCosts(set.isa)) {
    const Estimate estimate(set, layer.shape, *layer.codes, options.fip);
    plan.reason += Times(estimate({}) / estimate(plan.algorithm));
  }
  return plan;
}

}  // namespace

Status CheckOptions(const Options& options) {
  std::string names = "auto, direct";
  bool known = options.algorithm == "auto" || options.algorithm == "direct";
  for (const Candidate& c : AllCandidates()) {
    names += ", " + c.name();
    known = known || options.algorithm == c.name();
  }
  if (!known) return InvalidArgument("algorithm " + Quoted(options.algorithm) + ": expected one of " + names);
  if (options.fip != "auto" && options.fip != "on" && options.fip != "off") {
    return InvalidArgument("fip " + Quoted(options.fip) + ": expected auto, on or off");
  }
  return {};
}

Result<CodePlan> PlanCodes(const kernels::KernelSet& set, const kernels::ConvShape& shape, const pack::WeightsU8& weights,
                           const Options& options) {
  CodePlan plan;
  if (set.u8s8.mr == 0) return plan;  // the reference set has one way
  if (options.algorithm == "direct") {
    plan.reason = "as asked for";
    return plan;
  }
  const conv::Request layer = {set, shape, &weights, weights.bias != nullptr, {}};
  if (options.algorithm == "auto") {
    // Without costs the layer runs the direct way, and nothing of its codes need be known.
    return IsaHasCosts(set.isa) ? Choose(set, layer, options) : plan;
  }
  for (const Candidate& c : AllCandidates()) {
    if (c.name() == options.algorithm) return Force(set, layer, options, c);
  }
  return plan;
}

int64_t GroupsToMerge(const kernels::KernelSet& set, const kernels::ConvShape& shape, const pack::WeightsU8& weights) {
  // Wider groups than this are mostly zeros, and their weights leave the caches.
  constexpr int64_t kMostChannels = 128;
  // A base is added to the sum of the activations of its own group.
  if (set.u8s8.mr == 0 || shape.groups == 1 || weights.base != nullptr) return 1;
  if (conv::Request{set, shape, &weights, weights.bias != nullptr, {}}.depthwise()) return 1;
  int64_t best = 1;
  double least = std::numeric_limits<double>::infinity();
  for (int64_t merged = 1; merged <= shape.groups && merged <= kMostChannels; ++merged) {
    if (shape.groups % merged != 0) continue;
    const kernels::ConvShape s = pack::MergedShape(shape, merged);
    if (merged > 1 && std::max(s.group_inputs(), s.group_outputs()) > kMostChannels) break;
    double cycles;
    if (IsaHasCosts(set.isa)) {
      cycles = Estimate(set, s, weights, "off")({});
    } else {  // as many whole or begun vectors of channels as there are
      cycles = static_cast<double>(s.groups * pack::CeilDiv(s.group_outputs(), set.u8s8.nr)) *
               static_cast<double>(s.group_inputs() * s.taps() + set.u8s8.nr);
    }
    if (cycles < least) {
      least = cycles;
      best = merged;
    }
  }
  return best;
}

}  // namespace pqi::plan
