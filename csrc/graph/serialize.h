// Graph to canonical JSON text: equal graphs give equal bytes.
#pragma once

#include <string>

#include "graph/graph.h"

namespace pqi {

enum class ScaleText {
  kOmit,  // what a file holds: scales lie in the constant activation_scales
  kBits,  // each quant has "scale_bits", the float32 bit pattern: for readers of a loaded model's graph
};

std::string SerializeGraph(const Graph& graph, ScaleText scales);

}  // namespace pqi
