// Constants between their logical form (one element each) and the bytes in the file.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/span.h"
#include "base/status.h"
#include "graph/graph.h"

namespace pqi {

// Bytes of the constant in the file, if its type, shape, bits and packing fix them: all but those of a stream, which depend on the codes.
// The element count must be valid.
std::optional<uint64_t> StoredBytes(const Constant& constant);

// Whether the file keeps the constant as packed bytes, U8 of rank 1, rather than as elements in its own shape.
inline bool IsPacked(const Constant& constant) { return constant.type == ConstType::kCode && constant.packing != Packing::kNone; }

// Bytes of one element in logical form: int8 for kCode.
uint64_t LogicalElementBytes(ConstType type);

// The elements of an f32 (float), i32 (int32_t) or u8 (uint8_t) constant. The bytes of a loaded model are aligned for T.
template <typename T>
Span<const T> ElementsOf(const Constant& constant) {
  return {reinterpret_cast<const T*>(constant.bytes.data()), constant.bytes.size() / sizeof(T)};
}

// Codes of a kCode constant; out.size() == element_count(). kModelFormat if the packed bytes break docs/format.md (never for a loaded
// model: LoadGraph has unpacked every constant once).
Status UnpackCodes(const Constant& constant, Span<int8_t> out);

// Packs codes as UnpackCodes reads them. kInvalidArgument names the first code outside the constant's range.
Result<std::vector<uint8_t>> PackCodes(const Constant& constant, Span<const int8_t> codes);

// Holds contents to what a loaded model relies on: floats are finite, and codes are packed exactly as docs/format.md says.
Status CheckContents(const Constant& constant);

}  // namespace pqi
