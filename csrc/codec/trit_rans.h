// Codes of -1, 0 and 1 in nearly as few bits as their counts allow (docs/format.md, "Entropy-coded trits"): the packing of ternary weights,
// of which most are zeros. A range-ANS coder with static frequencies of 12 bits, four interleaved states of 32 bits and words of 16. Four
// states let a core work on four codes at a time, where one state would wait for its own multiplication; all arithmetic is on integers, so
// that every machine reads and writes the same bytes. Source: J. Duda, "Asymmetric numeral systems", arXiv 1311.2540; F. Giesen,
// "Interleaved entropy coders", arXiv 1402.3392.
#pragma once

#include <cstdint>
#include <vector>

#include "base/span.h"
#include "base/status.h"

namespace pqi {

// Whether a stream of `bytes` bytes can hold n codes, before anything is allocated for them: kModelFormat if not. A stream that passes may
// still be refused by UnpackTritRans.
Status CheckTritRansSize(uint64_t bytes, uint64_t n);

// The stream of `codes`. kInvalidArgument names the first code outside -1..1.
Result<std::vector<uint8_t>> PackTritRans(Span<const int8_t> codes);

// Fills `codes`, whose size the caller knows from the tensor's shape. kModelFormat where `bytes` is not the one stream of some array of
// that size; the contents of `codes` are then unspecified, each still in -1..1 or untouched.
Status UnpackTritRans(Span<const uint8_t> bytes, Span<int8_t> codes);

}  // namespace pqi
