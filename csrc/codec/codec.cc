#include "codec/codec.h"

#include <string>

namespace pqi {
namespace {

Status WrongSize(size_t got, uint64_t expected) {
  return {Code::kModelFormat, "packed codes take " + std::to_string(expected) + " bytes, got " + std::to_string(got)};
}

Status TailNotZero(const char* what) { return ModelFormat(std::string("unused ") + what + " of the last byte are not 0"); }

int8_t SignExtend(uint32_t code, int32_t bits) {
  const uint32_t sign = 1u << (bits - 1);
  return static_cast<int8_t>(static_cast<int32_t>(code ^ sign) - static_cast<int32_t>(sign));
}

}  // namespace

Status CheckRange(Span<const int8_t> codes, int32_t lo, int32_t hi) {
  for (size_t i = 0; i < codes.size(); ++i) {
    if (codes[i] < lo || codes[i] > hi) {
      return InvalidArgument("code " + std::to_string(codes[i]) + " at element " + std::to_string(i) + " is outside [" +
                             std::to_string(lo) + ", " + std::to_string(hi) + "]");
    }
  }
  return {};
}

Status PackNibbles(Span<const int8_t> codes, Span<uint8_t> out) {
  if (out.size() != NibbleBytes(codes.size())) return WrongSize(out.size(), NibbleBytes(codes.size()));
  PQI_RETURN_IF_ERROR(CheckRange(codes, CodeMin(4), CodeMax(4)));
  for (size_t i = 0; i < out.size(); ++i) {
    const uint32_t low = static_cast<uint8_t>(codes[2 * i]) & 15u;
    const uint32_t high = 2 * i + 1 < codes.size() ? static_cast<uint8_t>(codes[2 * i + 1]) & 15u : 0;
    out[i] = static_cast<uint8_t>(low | high << 4);
  }
  return {};
}

Status UnpackNibbles(Span<const uint8_t> bytes, Span<int8_t> codes) {
  if (bytes.size() != NibbleBytes(codes.size())) return WrongSize(bytes.size(), NibbleBytes(codes.size()));
  if (codes.size() % 2 != 0 && bytes[bytes.size() - 1] >> 4 != 0) return TailNotZero("bits");
  for (size_t i = 0; i < codes.size(); ++i) codes[i] = SignExtend(bytes[i / 2] >> (i % 2 * 4) & 15u, 4);
  return {};
}

Status PackTrits(Span<const int8_t> codes, Span<uint8_t> out) {
  if (out.size() != TritBytes(codes.size())) return WrongSize(out.size(), TritBytes(codes.size()));
  PQI_RETURN_IF_ERROR(CheckRange(codes, -1, 1));
  for (size_t i = 0; i < out.size(); ++i) {
    const size_t first = 5 * i;
    size_t j = codes.size() - first < 5 ? codes.size() - first : 5;
    uint32_t byte = 0;
    while (j > 0) byte = byte * 3 + static_cast<uint32_t>(codes[first + --j] + 1);
    out[i] = static_cast<uint8_t>(byte);
  }
  return {};
}

Status UnpackTrits(Span<const uint8_t> bytes, Span<int8_t> codes) {
  if (bytes.size() != TritBytes(codes.size())) return WrongSize(bytes.size(), TritBytes(codes.size()));
  for (size_t i = 0; i < bytes.size(); ++i) {
    uint32_t rest = bytes[i];
    for (size_t k = 5 * i; k < 5 * i + 5 && k < codes.size(); ++k, rest /= 3)
      codes[k] = static_cast<int8_t>(static_cast<int>(rest % 3) - 1);
    if (rest == 0) continue;
    if (bytes[i] > 242) return ModelFormat("byte " + std::to_string(bytes[i]) + " at " + std::to_string(i) + " is no group of five trits");
    return TailNotZero("trits");
  }
  return {};
}

Status PackDense(Span<const int8_t> codes, int32_t bits, Span<uint8_t> out) {
  if (out.size() != DenseBytes(codes.size(), bits)) return WrongSize(out.size(), DenseBytes(codes.size(), bits));
  PQI_RETURN_IF_ERROR(CheckRange(codes, CodeMin(bits), CodeMax(bits)));
  const uint32_t mask = (1u << bits) - 1;
  uint32_t window = 0;
  int32_t filled = 0;
  size_t next = 0;
  for (int8_t code : codes) {
    window |= (static_cast<uint32_t>(code) & mask) << filled;
    filled += bits;
    if (filled >= 8) {
      out[next++] = static_cast<uint8_t>(window);
      window >>= 8;
      filled -= 8;
    }
  }
  if (filled > 0) out[next] = static_cast<uint8_t>(window);
  return {};
}

Status UnpackDense(Span<const uint8_t> bytes, int32_t bits, Span<int8_t> codes) {
  if (bytes.size() != DenseBytes(codes.size(), bits)) return WrongSize(bytes.size(), DenseBytes(codes.size(), bits));
  const uint32_t mask = (1u << bits) - 1;
  uint32_t window = 0;
  int32_t filled = 0;
  size_t next = 0;
  for (int8_t& code : codes) {
    if (filled < bits) {
      window |= static_cast<uint32_t>(bytes[next++]) << filled;
      filled += 8;
    }
    code = SignExtend(window & mask, bits);
    window >>= bits;
    filled -= bits;
  }
  return window == 0 ? Status() : TailNotZero("bits");
}

}  // namespace pqi
