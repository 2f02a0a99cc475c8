// Telling people what they passed instead of a model.
#pragma once

#include <cstdint>
#include <string>

#include "base/span.h"

namespace pqi {

// "a zip archive (.pt, .pt2): ..." from the first bytes of a file that is not a model; "" if nothing is recognized.
std::string DescribeForeignFile(Span<const uint8_t> prefix);

}  // namespace pqi
