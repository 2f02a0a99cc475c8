#include "codec/codec.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

namespace pqi::test {
namespace {

using Codes = std::vector<int8_t>;
using Bytes = std::vector<uint8_t>;

struct Method {
  std::string name;
  int32_t lo, hi;
  std::function<uint64_t(uint64_t)> bytes;
  std::function<Status(Span<const int8_t>, Span<uint8_t>)> pack;
  std::function<Status(Span<const uint8_t>, Span<int8_t>)> unpack;
};

void PrintTo(const Method& method, std::ostream* out) { *out << method.name; }

std::vector<Method> AllMethods() {
  std::vector<Method> all = {{"nibble", -8, 7, NibbleBytes, PackNibbles, UnpackNibbles},
                             {"trit5", -1, 1, TritBytes, PackTrits, UnpackTrits}};
  for (int32_t bits = 2; bits <= 7; ++bits) {
    all.push_back({"dense" + std::to_string(bits), CodeMin(bits), CodeMax(bits), [bits](uint64_t n) { return DenseBytes(n, bits); },
                   [bits](Span<const int8_t> c, Span<uint8_t> b) { return PackDense(c, bits, b); },
                   [bits](Span<const uint8_t> b, Span<int8_t> c) { return UnpackDense(b, bits, c); }});
  }
  return all;
}

Codes Ramp(const Method& m, size_t n) {
  Codes codes;
  const size_t range = static_cast<size_t>(m.hi - m.lo + 1);
  for (size_t i = 0; i < n; ++i) codes.push_back(static_cast<int8_t>(m.lo + static_cast<int32_t>((i * 7 + i / 3) % range)));
  return codes;
}

Bytes Packed(const Method& m, const Codes& codes) {
  Bytes bytes(m.bytes(codes.size()), 0xEE);
  EXPECT_TRUE(m.pack(codes, bytes).ok());
  return bytes;
}

class CodecTest : public testing::TestWithParam<Method> {};
INSTANTIATE_TEST_SUITE_P(Methods, CodecTest, testing::ValuesIn(AllMethods()), [](const auto& test) { return test.param.name; });

TEST_P(CodecTest, RoundTripsEveryCountUpTo70) {
  for (size_t n = 0; n <= 70; ++n) {
    const Codes codes = Ramp(GetParam(), n);
    Codes back(n, 99);
    ASSERT_TRUE(GetParam().unpack(Packed(GetParam(), codes), back).ok()) << n;
    EXPECT_EQ(back, codes) << n;
  }
}

// Where unpack accepts bytes, packing the codes must give the same bytes again: nothing in a file can vary without the codes varying.
TEST_P(CodecTest, EveryAcceptedByteStringIsTheOnlyFormOfItsCodes) {
  for (size_t n = 1; n <= 9; ++n) {
    Bytes bytes = Packed(GetParam(), Ramp(GetParam(), n));
    for (size_t at = 0; at < bytes.size(); ++at) {
      const uint8_t original = bytes[at];
      for (int value = 0; value < 256; ++value) {
        bytes[at] = static_cast<uint8_t>(value);
        Codes codes(n);
        const Status status = GetParam().unpack(bytes, codes);
        if (status.ok()) {
          EXPECT_EQ(Packed(GetParam(), codes), bytes) << "n " << n << " byte " << value;
        } else {
          EXPECT_EQ(status.code(), Code::kModelFormat);
        }
      }
      bytes[at] = original;
    }
  }
}

TEST_P(CodecTest, RefusesCodesOutOfRangeAndNamesThem) {
  for (int32_t bad : {GetParam().lo - 1, GetParam().hi + 1}) {
    Codes codes = Ramp(GetParam(), 11);
    codes[10] = static_cast<int8_t>(bad);
    Bytes bytes(GetParam().bytes(11));
    const Status status = GetParam().pack(codes, bytes);
    EXPECT_EQ(status.code(), Code::kInvalidArgument);
    EXPECT_NE(status.message().find("code " + std::to_string(bad) + " at element 10"), std::string::npos) << status.message();
  }
}

TEST_P(CodecTest, RefusesWrongSizes) {
  for (int delta : {-1, 1}) {
    Codes codes = Ramp(GetParam(), 13);
    Bytes bytes(GetParam().bytes(13) + static_cast<size_t>(delta));
    EXPECT_EQ(GetParam().pack(codes, bytes).code(), Code::kModelFormat);
    EXPECT_EQ(GetParam().unpack(bytes, codes).code(), Code::kModelFormat);
  }
}

struct Layout {
  const char* method;
  Codes codes;
  Bytes bytes;
};

TEST(CodecLayout, MatchesTheFormatPage) {
  const Layout rows[] = {
      {"nibble", {1, -2, 7}, {0xE1, 0x07}},
      {"nibble", {-8}, {0x08}},
      {"trit5", {-1, -1, -1, -1, -1}, {0}},
      {"trit5", {1, 1, 1, 1, 1}, {242}},
      {"trit5", {0, 1, -1, 0, 0, 1, 0}, {1 + 2 * 3 + 0 * 9 + 1 * 27 + 1 * 81, 2 + 1 * 3}},
      {"dense3", {-1, 3, -4}, {0b00'011'111, 0b0000000'1}},
      {"dense7", {-64, 63}, {0b1'1000000, 0b00'011111}},
      {"dense2", {1, -2, -1, 0, 1}, {0b00'11'10'01, 0b01}},
  };
  for (const Layout& row : rows) {
    for (const Method& m : AllMethods()) {
      if (m.name != row.method) continue;
      EXPECT_EQ(Packed(m, row.codes), row.bytes) << row.method << " of " << row.codes.size();
    }
  }
}

struct Malformed {
  const char* method;
  size_t n;
  Bytes bytes;
};

// Holds D12, D13.
TEST(CodecMalformed, UnusedBitsAndImpossibleBytesAreRefused) {
  const Malformed rows[] = {
      {"nibble", 1, {0x10}},       {"nibble", 3, {0x00, 0xF7}}, {"trit5", 5, {243}},   {"trit5", 5, {255}},   {"trit5", 1, {3}},
      {"trit5", 4, {81}},          {"trit5", 6, {0, 4}},        {"dense2", 1, {0x04}}, {"dense3", 2, {0x40}}, {"dense5", 1, {0x80}},
      {"dense6", 3, {0, 0, 0x04}}, {"dense7", 1, {0x80}},       {"dense4", 1, {0x10}},
  };
  for (const Malformed& row : rows) {
    for (const Method& m : AllMethods()) {
      if (m.name != row.method) continue;
      Codes codes(row.n);
      EXPECT_EQ(m.unpack(row.bytes, codes).code(), Code::kModelFormat) << row.method << " n " << row.n << " byte " << +row.bytes.back();
    }
  }
}

TEST(CodecMalformed, AnImpossibleTritByteIsNamed) {
  Codes codes(10);
  EXPECT_NE(UnpackTrits(Bytes{0, 250}, codes).message().find("byte 250 at 1"), std::string::npos);
}

TEST(CodecSizes, DoNotOverflowForTheLargestCounts) {
  const uint64_t n = ~uint64_t{0};
  EXPECT_EQ(NibbleBytes(n), uint64_t{1} << 63);
  EXPECT_EQ(TritBytes(n), n / 5);
  EXPECT_EQ(DenseBytes(n, 7), n / 8 * 7 + 7);
}

}  // namespace
}  // namespace pqi::test
