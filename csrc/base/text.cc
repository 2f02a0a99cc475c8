#include "base/text.h"

namespace pqi {

std::string Quoted(std::string_view text) {
  constexpr size_t kLimit = 80;
  size_t length = text.size();
  if (length > kLimit) {
    length = kLimit;
    while (length > 0 && (static_cast<unsigned char>(text[length]) & 0xC0) == 0x80) --length;
  }
  std::string out = "'";
  for (char c : text.substr(0, length)) out += static_cast<unsigned char>(c) < 0x20 || c == 0x7F ? '?' : c;
  if (length < text.size()) out += "...";
  return out + "'";
}

}  // namespace pqi
