#include "format/xxh64.h"

namespace pqi {
namespace {

constexpr uint64_t kPrime1 = 0x9E3779B185EBCA87u;
constexpr uint64_t kPrime2 = 0xC2B2AE3D27D4EB4Fu;
constexpr uint64_t kPrime3 = 0x165667B19E3779F9u;
constexpr uint64_t kPrime4 = 0x85EBCA77C2B2AE63u;
constexpr uint64_t kPrime5 = 0x27D4EB2F165667C5u;

uint64_t RotateLeft(uint64_t x, int bits) { return x << bits | x >> (64 - bits); }

// Reads a little-endian number on any machine; compilers make one load of it.
uint64_t Load32(const uint8_t* p) { return uint64_t{p[0]} | uint64_t{p[1]} << 8 | uint64_t{p[2]} << 16 | uint64_t{p[3]} << 24; }
uint64_t Load64(const uint8_t* p) { return Load32(p) | Load32(p + 4) << 32; }

uint64_t Round(uint64_t lane, uint64_t input) { return RotateLeft(lane + input * kPrime2, 31) * kPrime1; }

}  // namespace

uint64_t Xxh64(Span<const uint8_t> bytes, uint64_t seed) {
  const uint8_t* p = bytes.data();
  size_t left = bytes.size();
  uint64_t h = seed + kPrime5;
  if (left >= 32) {
    uint64_t lane[4] = {seed + kPrime1 + kPrime2, seed + kPrime2, seed, seed - kPrime1};
    for (; left >= 32; left -= 32, p += 32) {
      for (int i = 0; i < 4; ++i) lane[i] = Round(lane[i], Load64(p + 8 * i));
    }
    h = RotateLeft(lane[0], 1) + RotateLeft(lane[1], 7) + RotateLeft(lane[2], 12) + RotateLeft(lane[3], 18);
    for (uint64_t l : lane) h = (h ^ Round(0, l)) * kPrime1 + kPrime4;
  }
  h += bytes.size();
  for (; left >= 8; left -= 8, p += 8) h = RotateLeft(h ^ Round(0, Load64(p)), 27) * kPrime1 + kPrime4;
  if (left >= 4) {
    h = RotateLeft(h ^ Load32(p) * kPrime1, 23) * kPrime2 + kPrime3;
    p += 4;
    left -= 4;
  }
  for (; left > 0; --left, ++p) h = RotateLeft(h ^ *p * kPrime5, 11) * kPrime1;
  h = (h ^ h >> 33) * kPrime2;
  h = (h ^ h >> 29) * kPrime3;
  return h ^ h >> 32;
}

}  // namespace pqi
