#include "format/xxh64.h"

#include <gtest/gtest.h>

#include "tests/format/test_files.h"

namespace pqi::test {
namespace {

struct Row {
  const char* text;
  uint64_t hash;
};

// Published values, as in the tests of other implementations.
TEST(Xxh64, MatchesPublishedValues) {
  const Row rows[] = {
      {"", 0xef46db3751d8e999},
      {"a", 0xd24ec4f1a98c6e5b},
      {"as", 0x1c330fb2d66be179},
      {"asd", 0x631c37ce72a97393},
      {"asdf", 0x415872f599cea71e},
      {"abc", 0x44bc2cf5ad770999},
      {"Call me Ishmael. Some years ago--never mind how long precisely-", 0x02a2e85470d6fd96},
  };
  for (const Row& row : rows) EXPECT_EQ(Xxh64(ToBytes(std::string(row.text))), row.hash) << row.text;
}

// The generator and the values of xxHash's own sanity test: prefixes of one pseudo-random buffer, with two seeds.
TEST(Xxh64, MatchesTheReferenceImplementationsSanityTest) {
  Bytes buffer(222);
  uint64_t generator = 2654435761U;
  for (uint8_t& byte : buffer) {
    byte = static_cast<uint8_t>(generator >> 56);
    generator *= 11400714785074694797U;
  }
  struct {
    size_t size;
    uint64_t seed, hash;
  } const rows[] = {
      {0, 2654435761U, 0xAC75FDA2929B17EF}, {1, 0, 0xE934A84ADB052768},
      {1, 2654435761U, 0x5014607643A9B4C3}, {4, 0, 0x9136A0DCA57457EE},
      {14, 0, 0x8282DCC4994E35C8},          {14, 2654435761U, 0xC3BD6BF63DEB6DF0},
      {222, 0, 0xB641AE8CB691C174},         {222, 2654435761U, 0x20CB8AB7AE10C14A},
  };
  for (const auto& row : rows) EXPECT_EQ(Xxh64({buffer.data(), row.size}, row.seed), row.hash) << row.size << " seed " << row.seed;
}

}  // namespace
}  // namespace pqi::test
