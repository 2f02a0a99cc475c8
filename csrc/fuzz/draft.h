// A file around a graph's text that the fuzzer made up.
#pragma once

#include <optional>
#include <string_view>

#include "base/aligned.h"

namespace pqi::fuzz {

// Writes the text with constants of plausible elements, drawn from the seed (seed 0: all ones, which are valid for nearly every use).
// Nothing where it is no graph, or its constants are large.
std::optional<AlignedBuffer<uint8_t>> WriteDraft(std::string_view text, uint32_t seed);

}  // namespace pqi::fuzz
