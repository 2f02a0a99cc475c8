// Telling people what they passed instead of a model.
#pragma once

#include <cstdint>
#include <string>

#include "base/span.h"

namespace pqi {

// Says what a file that is not a model is, from its first bytes: "a zip archive (.pt, .pt2): ...", or "" if nothing is recognized.
std::string DescribeForeignFile(Span<const uint8_t> prefix);

}  // namespace pqi
