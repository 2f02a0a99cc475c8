// The bytes of a file to a validated graph: the only way a Graph that may run comes to be.
#pragma once

#include <string>

#include "base/aligned.h"
#include "base/status.h"
#include "graph/graph.h"
#include "graph/op_def.h"

namespace pqi {

struct LoadedModel {
  AlignedBuffer<uint8_t> file;  // the whole file
  std::string producer;
  Graph graph;  // constants view `file`; shapes, quants and constants' contents are all proved valid
};

// Holds a file to every rule of docs/format.md, in its order. `file` is taken over, because nobody else may change it between validation
// and use (copy borrowed bytes with AlignedBuffer::CopyOf). Errors: kModelFormat, kIntegrity, kUnsupported.
Result<LoadedModel> LoadGraph(AlignedBuffer<uint8_t> file, OpLookup lookup);

}  // namespace pqi
