// Constants between their logical form (one element each) and the bytes in the file.
#pragma once

#include <cstdint>

#include "base/span.h"
#include "base/status.h"
#include "graph/graph.h"

namespace pqi {

// Bytes of the constant in the file, from its type, shape, bits and packing. The element count must be valid.
uint64_t StoredBytes(const Constant& constant);

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

// Packs codes as UnpackCodes reads them; out.size() == StoredBytes(constant). kInvalidArgument names the first code outside the
// constant's range.
Status PackCodes(const Constant& constant, Span<const int8_t> codes, Span<uint8_t> out);

// Holds contents to what a loaded model relies on: floats are finite, and codes are packed exactly as docs/format.md says.
Status CheckContents(const Constant& constant);

}  // namespace pqi
