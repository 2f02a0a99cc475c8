#include "graph/constants.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "base/text.h"
#include "codec/codec.h"
#include "codec/trit_rans.h"

namespace pqi {

std::optional<uint64_t> StoredBytes(const Constant& constant) {
  const uint64_t n = static_cast<uint64_t>(constant.element_count());
  switch (constant.type) {
    case ConstType::kF32:
    case ConstType::kI32:
      return n * 4;
    case ConstType::kU8:
      return n;
    case ConstType::kCode:
      break;
  }
  switch (constant.packing) {
    case Packing::kNone:
      return n;
    case Packing::kNibble:
      return NibbleBytes(n);
    case Packing::kTrit5:
      return TritBytes(n);
    case Packing::kDense:
      return DenseBytes(n, constant.bits);
    case Packing::kTritRans:
      break;
  }
  return std::nullopt;
}

uint64_t LogicalElementBytes(ConstType type) { return type == ConstType::kF32 || type == ConstType::kI32 ? 4 : 1; }

Status UnpackCodes(const Constant& constant, Span<int8_t> out) {
  switch (constant.packing) {
    case Packing::kNone:
      break;
    case Packing::kNibble:
      return UnpackNibbles(constant.bytes, out);
    case Packing::kTrit5:
      return UnpackTrits(constant.bytes, out);
    case Packing::kDense:
      return UnpackDense(constant.bytes, constant.bits, out);
    case Packing::kTritRans:
      return UnpackTritRans(constant.bytes, out);
  }
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<int8_t>(constant.bytes[i]);
  return {};
}

Result<std::vector<uint8_t>> PackCodes(const Constant& constant, Span<const int8_t> codes) {
  if (constant.packing == Packing::kTritRans) return PackTritRans(codes);
  std::vector<uint8_t> out(static_cast<size_t>(*StoredBytes(constant)));
  switch (constant.packing) {
    case Packing::kNone:
    case Packing::kTritRans:
      std::copy(codes.begin(), codes.end(), out.begin());
      break;
    case Packing::kNibble:
      PQI_RETURN_IF_ERROR(PackNibbles(codes, out));
      break;
    case Packing::kTrit5:
      PQI_RETURN_IF_ERROR(PackTrits(codes, out));
      break;
    case Packing::kDense:
      PQI_RETURN_IF_ERROR(PackDense(codes, constant.bits, out));
      break;
  }
  return out;
}

Status CheckContents(const Constant& constant) {
  const std::string where = "constant " + Quoted(constant.name) + ": ";
  if (constant.type == ConstType::kF32) {
    const Span<const float> values = ElementsOf<float>(constant);
    for (size_t i = 0; i < values.size(); ++i) {
      if (!std::isfinite(values[i])) return ModelFormat(where + "element " + std::to_string(i) + " is " + std::to_string(values[i]));
    }
  }
  // A code in 8 bits can be anything.
  if (IsPacked(constant)) {
    std::vector<int8_t> codes(static_cast<size_t>(constant.element_count()));
    const Status status = UnpackCodes(constant, codes);
    if (!status.ok()) return {status.code(), where + status.message()};
  }
  return {};
}

}  // namespace pqi
