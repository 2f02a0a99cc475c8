// XXH64, the 64-bit xxHash (https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md). It finds accidents, not attackers.
#pragma once

#include <cstdint>

#include "base/span.h"

namespace pqi {

uint64_t Xxh64(Span<const uint8_t> bytes, uint64_t seed = 0);

}  // namespace pqi
