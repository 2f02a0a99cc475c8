// Which characters names cannot hold and messages do not print.
#include "base/text.h"

#include <gtest/gtest.h>

namespace pqi::test {
namespace {

std::string Utf8(uint32_t code) {
  const auto byte = [](uint32_t b) { return static_cast<char>(b); };
  if (code < 0x80) return {byte(code)};
  if (code < 0x800) return {byte(0xC0 | code >> 6), byte(0x80 | (code & 63))};
  if (code < 0x10000) return {byte(0xE0 | code >> 12), byte(0x80 | (code >> 6 & 63)), byte(0x80 | (code & 63))};
  return {byte(0xF0 | code >> 18), byte(0x80 | (code >> 12 & 63)), byte(0x80 | (code >> 6 & 63)), byte(0x80 | (code & 63))};
}

TEST(ControlLength, KnowsEveryCharacterThatIsNotSeen) {
  for (uint32_t code = 0; code < 0x110000; ++code) {
    if (code >= 0xD800 && code < 0xE000) continue;  // halves of pairs are no characters
    const bool control = code < 0x20 || (code >= 0x7F && code < 0xA0) || code == 0x61C || code == 0x200E || code == 0x200F ||
                         (code >= 0x2028 && code <= 0x202E) || (code >= 0x2066 && code <= 0x2069);
    const std::string text = Utf8(code);
    ASSERT_EQ(ControlLength(text + "x"), control ? text.size() : 0) << std::hex << code;
    ASSERT_EQ(ControlLength(text.substr(0, text.size() - 1)), 0u) << std::hex << code;
    ASSERT_EQ(Quoted("a" + text + "b"), "'a" + (control ? "?" : text) + "b'") << std::hex << code;
  }
}

}  // namespace
}  // namespace pqi::test
