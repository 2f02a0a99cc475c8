// numpy's .npy files, as much as the engine needs: C-ordered float32, uint8 and int32 arrays, format versions 1 to 3.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/span.h"
#include "base/status.h"
#include "graph/graph.h"

namespace pqi::tools {

struct NpyArray {
  DType dtype = DType::kF32;
  ConcreteShape shape;
  std::vector<uint8_t> bytes;
};

// Errors: kIo if the file cannot be read, kInvalidArgument if it is not such an array.
Result<NpyArray> ReadNpy(const std::string& path);
Status WriteNpy(const std::string& path, DType dtype, const ConcreteShape& shape, Span<const uint8_t> bytes);

}  // namespace pqi::tools
