#include "plan/conv_choice.h"

namespace pqi::plan {

Choice DescribeConv(const pack::ConvLayout& layout, Isa isa, Arithmetic arithmetic) {
  std::string name = arithmetic == Arithmetic::kInteger ? "u8s8" : "f32";
  std::string reason;
  switch (layout.method) {
    case pack::Method::kReference:
      name = "reference";
      reason = "the reference instruction set has no tile kernels";
      break;
    case pack::Method::kTiles:
    case pack::Method::kRuns:
      name += std::string("-") + IsaName(isa);
      reason = "tiles of " + std::to_string(layout.tile.mr) + " pixels by " + std::to_string(layout.tile.nr) + " channels";
      if (layout.method == pack::Method::kRuns) reason += ", each kernel row read as one run";
      break;
    case pack::Method::kGather:
      name += std::string("-gather-") + IsaName(isa);
      reason = "few channels per tap: windows are copied into rows of " + std::to_string(layout.k);
      break;
    case pack::Method::kWinograd:
      name += "-winograd";
      break;
    case pack::Method::kDepthwise:
      name += std::string("-depthwise-") + IsaName(isa);
      reason = "one input and one output channel per group";
      break;
  }
  if (arithmetic == Arithmetic::kExpandedCodes) reason += "; float input, so the weights are expanded to float32";
  return {name, reason};
}

}  // namespace pqi::plan
