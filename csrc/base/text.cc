#include "base/text.h"

namespace pqi {

size_t ControlLength(std::string_view text) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const auto in = [](unsigned value, unsigned first, unsigned last) { return first <= value && value <= last; };
  if (text.empty()) return 0;
  if (byte(0) < 0x20 || byte(0) == 0x7F) return 1;
  if (byte(0) == 0xC2 && in(byte(1), 0x80, 0x9F)) return 2;
  if (byte(0) == 0xD8 && byte(1) == 0x9C) return 2;
  const bool marks = byte(1) == 0x80 && (in(byte(2), 0x8E, 0x8F) || in(byte(2), 0xA8, 0xAE));
  const bool isolates = byte(1) == 0x81 && in(byte(2), 0xA6, 0xA9);
  return byte(0) == 0xE2 && (marks || isolates) ? 3 : 0;
}

std::string Quoted(std::string_view text) {
  constexpr size_t kLimit = 80;
  size_t length = text.size();
  if (length > kLimit) {
    length = kLimit;
    while (length > 0 && (static_cast<unsigned char>(text[length]) & 0xC0) == 0x80) --length;
  }
  std::string out = "'";
  for (size_t i = 0; i < length;) {
    const size_t control = ControlLength(text.substr(i));
    out += control ? '?' : text[i];
    i += control ? control : 1;
  }
  if (length < text.size()) out += "...";
  return out + "'";
}

}  // namespace pqi
