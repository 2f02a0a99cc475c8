#include "plan/algorithm.h"

#include <cstdio>
#include <iterator>

#include "base/cpu_family.h"
#include "base/text.h"
#include "pack/layout.h"
#include "pack/winograd_filter.h"
#include "plan/cost.h"
#include "plan/range.h"

namespace pqi::plan {
namespace {

using pack::Algorithm;
using pack::Product;
using pack::Winograd;

struct Candidate {
  const char* name;
  Winograd winograd;
  Product product;
};
constexpr Candidate kCandidates[] = {
    {"fip", Winograd::kNone, Product::kInnerProduct},
    {"deferred", Winograd::kNone, Product::kDeferred},
    {"winograd_1d", Winograd::k1d, Product::kDot},
    {"winograd_1d_fip", Winograd::k1d, Product::kInnerProduct},
    {"winograd_1d_deferred", Winograd::k1d, Product::kDeferred},
    {"winograd_1d4", Winograd::k1d4, Product::kDot},
    {"winograd_1d4_fip", Winograd::k1d4, Product::kInnerProduct},
    {"winograd_1d4_deferred", Winograd::k1d4, Product::kDeferred},
    {"winograd_4x4", Winograd::k4x4, Product::kDot},
    {"winograd_4x4_deferred", Winograd::k4x4, Product::kDeferred},
    {"winograd", Winograd::k2d, Product::kDot},
    {"winograd_fip", Winograd::k2d, Product::kInnerProduct},
    {"winograd_deferred", Winograd::k2d, Product::kDeferred},
};

bool IsWinograd(const Candidate& c) { return c.winograd != Winograd::kNone; }

bool HasKernels(const kernels::KernelSet& set, const Candidate& c) {
  if (IsWinograd(c) && pack::FilterKernels(set, c.winograd).input == nullptr) return false;
  if (c.product == Product::kInnerProduct) return set.u8s8_inner_product.shape.mr > 0;
  if (c.product == Product::kDeferred) return set.u8s8_deferred.shape.mr > 0;
  return set.u8s8_dot.shape.mr > 0;
}

// Why a layer's shape does not suit an algorithm, or "".
std::string Misfit(const Candidate& c, const kernels::KernelSet& set, const kernels::ConvShape& shape, const pack::WeightsU8& weights,
                   const CodeRanges& ranges) {
  const pack::ConvLayout direct = pack::LayoutConvU8(set, shape, false, weights.base != nullptr, {Winograd::kNone, c.product, 1});
  if (direct.method == pack::Method::kDepthwise) return "a depthwise layer";
  if (IsWinograd(c) && !ranges.winograd) return "not 3x3 with stride 1, dilation 1 and one group";
  if (IsWinograd(c) && weights.base != nullptr) return "weights with a base need the sums of whole windows";
  const int64_t k = IsWinograd(c) ? shape.c : direct.k;
  if (c.product == Product::kInnerProduct && k % 8 != 0) return "rows of " + std::to_string(k) + " codes are no multiple of 8";
  return "";
}

std::string Times(double ratio) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f", ratio);
  return text;
}

struct Words {
  const char *name, *products;
};
Words FilterWords(Winograd winograd) {
  switch (winograd) {
    case Winograd::k1d:
      return {"-winograd1d", "two outputs by 12 products instead of 18"};
    case Winograd::k1d4:
      return {"-winograd1d4", "four outputs by 18 products instead of 36"};
    case Winograd::k4x4:
      return {"-winograd4x4", "4x4 outputs by 46 products instead of 144"};
    default:
      return {"-winograd", "2x2 outputs by 16 products instead of 36"};
  }
}

// Does "auto" consider it?
bool Allowed(const Candidate& c, const std::string& fip) {
  if (c.product != Product::kInnerProduct || fip == "on") return true;
  return fip == "auto" && CpuAddsBesideDots();
}

}  // namespace

Status CheckOptions(const Options& options) {
  std::string names = "auto, direct";
  bool known = options.algorithm == "auto" || options.algorithm == "direct";
  for (const Candidate& c : kCandidates) {
    names += std::string(", ") + c.name;
    known = known || options.algorithm == c.name;
  }
  if (!known) return InvalidArgument("algorithm " + Quoted(options.algorithm) + ": expected one of " + names);
  if (options.fip != "auto" && options.fip != "on" && options.fip != "off") {
    return InvalidArgument("fip " + Quoted(options.fip) + ": expected auto, on or off");
  }
  return {};
}

Result<CodePlan> PlanCodes(const kernels::KernelSet& set, const kernels::ConvShape& shape, const pack::WeightsU8& weights,
                           const Options& options) {
  CodePlan best;
  if (set.u8s8_dot.shape.mr == 0) return best;  // the reference set has one way
  if (options.algorithm == "direct") {
    best.reason = "as asked for";
    return best;
  }
  if (options.algorithm == "auto" && !HasCosts(set.isa)) return best;  // direct, and nothing of the codes need be known
  const CodeRanges ranges = FindRanges(shape, weights);
  // "on" asks for the choices of a CPU that adds beside its dot products.
  const bool two_dot_ports = options.fip != "on" && CpuHasTwoDotPorts();
  const double direct = EstimateCycles(set.isa, two_dot_ports, shape, pack::LayoutConvU8(set, shape, false, weights.base != nullptr));
  double least = direct;
  std::string refused;
  for (const Candidate& c : kCandidates) {
    const bool forced = options.algorithm == c.name;
    if (!forced && (options.algorithm != "auto" || !Allowed(c, options.fip))) continue;
    if (!HasKernels(set, c)) {
      if (forced) return Unsupported(std::string("algorithm ") + c.name + ": " + IsaName(set.isa) + " has no kernel for it");
      continue;
    }
    const std::string misfit = Misfit(c, set, shape, weights, ranges);
    if (!misfit.empty()) {
      if (forced) best.reason = std::string("not ") + c.name + ": " + misfit;
      continue;
    }
    const Proof proof = Prove(ranges, c.winograd, c.product);
    if (!proof.exact) {
      if (forced) return InvalidArgument(std::string("algorithm ") + c.name + " is not exact here: " + proof.numbers);
      if (IsWinograd(c) == (c.product == Product::kDot)) refused = std::string("not ") + c.name + ": " + proof.numbers;
      continue;
    }
    const Algorithm algorithm = {c.winograd, c.product, proof.depth};
    const double cycles =
        EstimateCycles(set.isa, two_dot_ports, shape, pack::LayoutConvU8(set, shape, false, weights.base != nullptr, algorithm));
    if (!forced && cycles >= least) continue;
    least = cycles;
    best.algorithm = algorithm;
    best.reason = std::string(c.name) + " is exact (" + proof.numbers + "), estimated " + Times(direct / cycles) + "x direct";
  }
  if (best.reason.empty()) best.reason = refused;
  return best;
}

Choice DescribeConv(const pack::ConvLayout& layout, Isa isa, Arithmetic arithmetic, const std::string& why) {
  std::string name = arithmetic == Arithmetic::kInteger ? "u8s8" : "f32";
  std::string reason;
  switch (layout.method) {
    case pack::Method::kReference:
      return {"reference", "the reference instruction set has no tile kernels"};
    case pack::Method::kTiles:
    case pack::Method::kRuns:
      reason = "tiles of " + std::to_string(layout.tile.mr) + " pixels by " + std::to_string(layout.tile.nr) + " channels";
      if (layout.method == pack::Method::kRuns) reason += ", each kernel row read as one run";
      break;
    case pack::Method::kLines:
      reason =
          "few channels per tap: lines are copied with their padding, windows of " + std::to_string(layout.taps) + " runs read in place";
      break;
    case pack::Method::kGather:
      name += "-gather";
      reason = "few channels per tap: windows are copied into rows of " + std::to_string(layout.k);
      break;
    case pack::Method::kDepthwise:
      name += "-depthwise";
      reason = "one input and one output channel per group";
      break;
    case pack::Method::kMatrix:
      name += "-matrix";
      reason = "matrix registers: 32 pixels by 32 channels, " + std::to_string(layout.tile.kr) + " codes at a time";
      break;
    case pack::Method::kWinograd:
      name += FilterWords(layout.algorithm.winograd).name;
      reason = FilterWords(layout.algorithm.winograd).products;
      break;
  }
  if (layout.algorithm.product == Product::kInnerProduct) name += "-fip";
  if (layout.algorithm.product == Product::kDeferred) name += "-deferred";
  name += std::string("-") + IsaName(isa);
  if (!why.empty()) reason += "; " + why;
  if (arithmetic == Arithmetic::kExpandedCodes) reason += "; float input, so the weights are expanded to float32";
  return {name, reason};
}

}  // namespace pqi::plan
