// The packings of codes: what the fuzzer makes up is unpacked, and packed as codes.
#include <algorithm>
#include <vector>

#include "codec/codec.h"
#include "codec/trit_rans.h"
#include "fuzz/target.h"

namespace pqi::fuzz {
namespace {

// A stream that unpacks is the only one of its codes.
template <typename Pack>
void Unpacked(const Status& status, Span<const uint8_t> bytes, const std::vector<int8_t>& codes, Pack&& pack) {
  if (!status.ok()) return RequireGoodError(status, false);
  ++Counted().loaded;
  const std::vector<uint8_t> again = pack(codes);
  Require(std::equal(again.begin(), again.end(), bytes.begin(), bytes.end()), "packing is not canonical", std::to_string(codes.size()));
}

}  // namespace

void One(const uint8_t* data, size_t size) {
  if (size < 3) return;
  const int bits = 2 + data[0] % 6, kind = data[0] / 6 % 4;
  const size_t count = data[1] | static_cast<size_t>(data[2]) << 8;
  const Span<const uint8_t> bytes{data + 3, size - 3};
  std::vector<int8_t> codes(count);
  if (kind == 0) {
    const auto pack = [](const std::vector<int8_t>& c) { return std::move(PackTritRans(c)).value(); };
    Unpacked(UnpackTritRans(bytes, codes), bytes, codes, pack);
    std::vector<int8_t> trits;
    for (uint8_t byte : bytes) trits.push_back(static_cast<int8_t>(byte % 3 - 1));
    const std::vector<uint8_t> stream = pack(trits);
    std::vector<int8_t> back(trits.size());
    Require(UnpackTritRans(stream, back).ok() && back == trits, "codes do not come back", std::to_string(trits.size()));
  } else if (kind == 1) {
    Unpacked(UnpackDense(bytes, bits, codes), bytes, codes, [&](const std::vector<int8_t>& c) {
      std::vector<uint8_t> out(DenseBytes(c.size(), bits));
      Require(PackDense(c, bits, out).ok(), "codes do not pack", "dense");
      return out;
    });
  } else if (kind == 2) {
    Unpacked(UnpackTrits(bytes, codes), bytes, codes, [](const std::vector<int8_t>& c) {
      std::vector<uint8_t> out(TritBytes(c.size()));
      Require(PackTrits(c, out).ok(), "codes do not pack", "trits");
      return out;
    });
  } else {
    Unpacked(UnpackNibbles(bytes, codes), bytes, codes, [](const std::vector<int8_t>& c) {
      std::vector<uint8_t> out(NibbleBytes(c.size()));
      Require(PackNibbles(c, out).ok(), "codes do not pack", "nibbles");
      return out;
    });
  }
}

}  // namespace pqi::fuzz
