// A graph and its constants to the bytes of a file.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/aligned.h"
#include "base/span.h"
#include "base/status.h"
#include "graph/graph.h"
#include "graph/op_def.h"

namespace pqi {

// One constant's elements, row-major, not packed: float, int32_t, uint8_t, or int8_t for kCode.
struct LogicalArray {
  ConstType type = ConstType::kF32;
  std::vector<int64_t> shape;
  Span<const uint8_t> bytes;
};

// `graph_json`: the graph as in the file, where shapes of values that nodes write may be left out; `constants`: one array per entry of its
// "constants". Packs, infers shapes, hashes. Equal input gives equal bytes. kInvalidArgument for arrays that do not match the graph;
// kModelFormat and kUnsupported as LoadGraph. What the ops prove from contents is left to LoadGraph: load the bytes before trusting them.
Result<AlignedBuffer<uint8_t>> WriteGraph(std::string_view graph_json, Span<const LogicalArray> constants, std::string_view producer,
                                          OpLookup lookup);

}  // namespace pqi
