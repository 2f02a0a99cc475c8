#include "codec/trit_rans.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

namespace pqi::test {
namespace {

using Codes = std::vector<int8_t>;
using Bytes = std::vector<uint8_t>;

constexpr int8_t kValues[] = {-1, 0, 1};

// Codes that are 0 with probability `zeros`, and 1 with `plus` of the rest.
Codes RandomCodes(size_t n, double zeros, double plus = 0.5, uint32_t seed = 1) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> uniform;
  Codes codes(n);
  for (int8_t& code : codes) code = static_cast<int8_t>(uniform(random) < zeros ? 0 : uniform(random) < plus ? 1 : -1);
  return codes;
}

Bytes Packed(const Codes& codes) {
  Result<Bytes> bytes = PackTritRans(codes);
  EXPECT_TRUE(bytes.ok()) << bytes.status().message();
  return std::move(bytes).value();
}

// Bytes that the counts of the codes allow at the least.
double EntropyBytes(const Codes& codes) {
  double bits = 0;
  for (const int8_t value : kValues) {
    const double count = static_cast<double>(std::count(codes.begin(), codes.end(), value));
    if (count > 0) bits += count * std::log2(static_cast<double>(codes.size()) / count);
  }
  return bits / 8;
}

void ExpectRoundTrip(const Codes& codes, const std::string& what) {
  const Bytes bytes = Packed(codes);
  Codes back(codes.size(), 99);
  const Status status = UnpackTritRans(bytes, back);
  ASSERT_TRUE(status.ok()) << what << ": " << status.message();
  EXPECT_EQ(back, codes) << what;
}

TEST(TritRans, RoundTripsEveryCountAndMixture) {
  for (size_t n = 0; n <= 70; ++n) {
    for (const int8_t value : kValues) ExpectRoundTrip(Codes(n, value), std::to_string(n) + " times " + std::to_string(value));
    for (double zeros : {0.0, 0.5, 0.9}) ExpectRoundTrip(RandomCodes(n, zeros), std::to_string(n) + " codes");
  }
  for (size_t n : {1'001, 100'000}) {
    for (const int8_t value : kValues) ExpectRoundTrip(Codes(n, value), std::to_string(n) + " times " + std::to_string(value));
    for (double zeros : {0.0, 0.1, 0.5, 0.88, 0.99, 0.9999}) {
      for (double plus : {0.0, 0.3, 1.0}) ExpectRoundTrip(RandomCodes(n, zeros, plus), std::to_string(zeros));
    }
  }
}

TEST(TritRans, TakesAtMostOnePercentMoreThanTheEntropy) {
  for (double zeros : {0.0, 1.0 / 3, 0.5, 0.7, 0.8, 0.85, 0.8889, 0.9, 0.92, 0.95, 0.97}) {
    const Codes codes = RandomCodes(100'000, zeros);
    EXPECT_LE(static_cast<double>(Packed(codes).size()), 1.01 * EntropyBytes(codes)) << zeros;
  }
  for (double plus : {0.2, 0.8}) {
    const Codes codes = RandomCodes(100'000, 0.5, plus);
    EXPECT_LE(static_cast<double>(Packed(codes).size()), 1.01 * EntropyBytes(codes)) << plus;
  }
}

TEST(TritRans, MatchesTheFormatPage) {
  EXPECT_EQ(Packed({}), (Bytes{4, 0, 4, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0}));
  Codes codes;
  for (int i = 0; i < 10; ++i) codes.insert(codes.end(), {1, -1, 0, 0, 0});
  EXPECT_EQ(Packed(codes), (Bytes{0x33, 0x03, 0x33, 0x03, 0x82, 0xde, 0x02, 0x00, 0x33, 0xb1, 0x08, 0x00, 0xc0,
                                  0xaa, 0x01, 0x00, 0xb4, 0x7b, 0x17, 0x91, 0xb0, 0x99, 0x53, 0xc6, 0x0b, 0xbf}));
}

// Nothing in a stream can vary without the codes varying: whatever is accepted is what packing gives.
TEST(TritRans, EveryChangedByteIsRefusedOrIsTheStreamOfOtherCodes) {
  for (size_t n : {1, 4, 37}) {
    Bytes bytes = Packed(RandomCodes(n, 0.6));
    size_t accepted = 0;
    for (size_t at = 0; at < bytes.size(); ++at) {
      const uint8_t original = bytes[at];
      for (int value = 0; value < 256; ++value) {
        bytes[at] = static_cast<uint8_t>(value);
        Codes codes(n);
        const Status status = UnpackTritRans(bytes, codes);
        accepted += status.ok();
        if (status.ok()) {
          EXPECT_EQ(Packed(codes), bytes) << "n " << n << " at " << at << " byte " << value;
        } else {
          EXPECT_EQ(status.code(), Code::kModelFormat);
        }
      }
      bytes[at] = original;
    }
    EXPECT_GE(accepted, bytes.size()) << "the stream itself";
    EXPECT_LT(accepted, 2 * bytes.size()) << "hardly any change may pass";
  }
}

// Random bytes decode to something or nothing, but inside of both arrays (the sanitizers look at that).
TEST(TritRans, RandomBytesAreRefused) {
  std::mt19937 random(7);
  for (int round = 0; round < 2'000; ++round) {
    Bytes bytes(20 + 2 * (random() % 40));
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
    bytes[1] &= 7, bytes[3] &= 7;  // or the frequencies would be refused nearly always
    Codes codes(random() % 300);
    const Status status = UnpackTritRans(bytes, codes);
    EXPECT_EQ(status.code(), Code::kModelFormat);
  }
}

void ExpectRefused(const Bytes& bytes, size_t n, const std::string& message) {
  Codes codes(n);
  const Status status = UnpackTritRans(bytes, codes);
  EXPECT_EQ(status.code(), Code::kModelFormat) << message;
  EXPECT_NE(status.message().find(message), std::string::npos) << status.message();
}

TEST(TritRansMalformed, EachRuleOfTheFormatPageHasItsMessage) {
  const size_t n = 1'000;
  const Codes codes = RandomCodes(n, 0.8);
  const Bytes good = Packed(codes);
  const auto with = [&good](size_t at, uint8_t value) {
    Bytes bytes = good;
    bytes[at] = value;
    return bytes;
  };
  ExpectRefused({}, n, "0 bytes are no stream of 1000 codes");
  ExpectRefused(Bytes(good.begin(), good.end() - 1), n, "bytes are no stream of 1000 codes");
  ExpectRefused(Bytes(good.begin(), good.end() - 2), n, "the stream ends too early");
  ExpectRefused(good, n + 100, "the stream ends too early");
  ExpectRefused(good, n - 100, "bytes are left behind the last code");
  Bytes longer = good;
  longer.insert(longer.end(), {0, 0});
  ExpectRefused(longer, n, "bytes are left behind the last code");
  Bytes low = good;
  low[0] = 3, low[1] = 0;
  ExpectRefused(low, n, "a frequency is below 4");
  ExpectRefused(with(1, 0xFF), n, "a frequency is below 4");
  Bytes state = good;
  state[6] = state[7] = 0;
  ExpectRefused(state, n, "a state is below 65536");
  // One state for nothing else: n = 3 leaves the fourth as it was.
  Bytes idle = Packed({0, 1, -1});
  idle[16] = 1;
  ExpectRefused(idle, 3, "the last state is not 65536");
  // Codes of one kind, told with the frequencies of three.
  Bytes other = Packed({});
  other[0] = 5;
  ExpectRefused(other, 0, "the frequencies are not those of the codes");
}

TEST(TritRansMalformed, SizesAreBoundBeforeAnythingIsAllocated) {
  EXPECT_TRUE(CheckTritRansSize(20, 20 * 4096).ok());
  EXPECT_EQ(CheckTritRansSize(20, 20 * 4096 + 1).code(), Code::kModelFormat);
  EXPECT_EQ(CheckTritRansSize(uint64_t{1} << 40, ~uint64_t{0}).code(), Code::kModelFormat);
  EXPECT_EQ(CheckTritRansSize(18, 1).code(), Code::kModelFormat);
  EXPECT_EQ(CheckTritRansSize(21, 1).code(), Code::kModelFormat);
  for (const int8_t value : kValues) {
    const size_t n = 3'000'000;
    EXPECT_TRUE(CheckTritRansSize(Packed(Codes(n, value)).size(), n).ok()) << "the shortest streams that there are";
  }
}

TEST(TritRans, RefusesCodesOutOfRangeAndNamesThem) {
  for (int bad : {-2, 2, 127}) {
    const Status status = PackTritRans(Codes{0, 1, static_cast<int8_t>(bad)}).status();
    EXPECT_EQ(status.code(), Code::kInvalidArgument);
    EXPECT_NE(status.message().find("code " + std::to_string(bad) + " at element 2"), std::string::npos) << status.message();
  }
}

}  // namespace
}  // namespace pqi::test
