// Text for messages.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace pqi {

// How many bytes the control character at the front of this UTF-8 text takes; 0 where there is none. Those are U+0000 to U+001F, U+007F to
// U+009F, and what changes lines or the direction of writing without being seen: U+061C, U+200E, U+200F, U+2028 to U+202E, and U+2066 to
// U+2069.
size_t ControlLength(std::string_view text);

// 'text' in single quotes: control characters become '?', and more than 80 bytes are cut at a character boundary, so that a hostile name
// cannot forge or flood a message. Valid UTF-8 stays valid UTF-8.
std::string Quoted(std::string_view text);

// A shape as text: "[1, 3, 224, 224]".
template <typename Range>
std::string DimsText(const Range& dims) {
  std::string out = "[";
  bool first = true;
  for (int64_t d : dims) {
    if (!first) out += ", ";
    first = false;
    out += std::to_string(d);
  }
  return out + "]";
}

}  // namespace pqi
