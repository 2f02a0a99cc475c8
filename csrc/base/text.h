// Text for messages.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace pqi {

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
