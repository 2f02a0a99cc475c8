// The header's metadata. Private to csrc/format.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "format/container.h"
#include "format/json.h"

namespace pqi {

inline constexpr const char* kHeaderHashName = "~hdr";
inline constexpr const char* kFormatName = "pyqinfer";
inline constexpr const char* kFirstVersion = "1.0";
inline constexpr const char* kVersionOfFeatures = "1.1";  // of files that require features, which version 1.0 has none of

struct Metadata {
  std::string producer, graph, hashes;
  std::vector<std::string> features;
};

// Reads "__metadata__", which must be first in the header, with strings for values and the right format. kUnsupported for a larger major
// version or an unknown feature.
Status ReadMetadata(JsonRef header, Metadata* out);

// Distributes the digits of "hashes" over tensors and padding, which `container` holds apart but each in file order.
Status AssignHashes(const std::string& hashes, Container* container);

}  // namespace pqi
