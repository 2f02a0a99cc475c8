#include "codec/trit_rans.h"

#include <algorithm>
#include <array>
#include <string>

#include "codec/codec.h"

namespace pqi {
namespace {

constexpr uint32_t kSlotBits = 12;
constexpr uint32_t kSlots = 1u << kSlotBits;
constexpr uint32_t kMinFrequency = 4;
constexpr uint32_t kLowest = 1u << 16;  // a state lies in [kLowest, 2^32)
constexpr size_t kLanes = 4;
constexpr size_t kHeaderBytes = 4 + 4 * kLanes;
constexpr uint64_t kMaxCodesPerByte = 4096;

// What the coder knows of one code, by code + 1.
struct Symbol {
  uint32_t frequency, begin;
};
using Symbols = std::array<Symbol, 3>;
using Counts = std::array<uint64_t, 3>;

Symbols SymbolsOf(uint32_t minus, uint32_t plus) { return {{{minus, 0}, {kSlots - minus - plus, minus}, {plus, kSlots - plus}}}; }

Symbols SymbolsOfCounts(const Counts& counts) {
  const uint64_t n = counts[0] + counts[1] + counts[2];
  const auto share = [n](uint64_t count) {
    return n == 0 ? kMinFrequency : std::max(kMinFrequency, static_cast<uint32_t>((count * kSlots + n / 2) / n));
  };
  uint32_t minus = share(counts[0]), plus = share(counts[2]);
  if (minus + plus > kSlots - kMinFrequency) {
    uint32_t& larger = plus > minus ? plus : minus;
    larger -= minus + plus - (kSlots - kMinFrequency);
  }
  return SymbolsOf(minus, plus);
}

// Counts the codes, each of which is -1, 0 or 1.
Counts CountsOf(Span<const int8_t> codes) {
  uint64_t minus = 0, plus = 0;
  for (int8_t code : codes) {
    minus += code < 0;
    plus += code > 0;
  }
  return {minus, codes.size() - minus - plus, plus};
}

uint32_t LoadU16(const uint8_t* p) { return static_cast<uint32_t>(p[0]) | static_cast<uint32_t>(p[1]) << 8; }
uint32_t LoadU32(const uint8_t* p) { return LoadU16(p) | LoadU16(p + 2) << 16; }
void StoreU16(uint8_t* p, uint32_t value) {
  p[0] = static_cast<uint8_t>(value);
  p[1] = static_cast<uint8_t>(value >> 8);
}
void StoreU32(uint8_t* p, uint32_t value) {
  StoreU16(p, value);
  StoreU16(p + 2, value >> 16);
}

// Takes one code off a state, which may then lie below kLowest, but never below 64: a state of at least 2^16 over 2^12 slots is 16 times a
// frequency of at least 4. So one word always lifts it back. Which code a slot belongs to is chance, which no branch predictor can know, so
// each slot has an entry in a table, of a size that stays in the first-level cache.
class Decoder {
 public:
  explicit Decoder(const Symbols& symbols) {
    for (uint32_t slot = 0; slot < kSlots; ++slot) {
      const uint32_t index = static_cast<uint32_t>(slot >= symbols[1].begin) + static_cast<uint32_t>(slot >= symbols[2].begin);
      entries_[slot] = {static_cast<uint16_t>(symbols[index].frequency), static_cast<uint16_t>((slot - symbols[index].begin) << 2 | index)};
    }
  }

  int8_t Take(uint32_t* state) const {
    const Entry entry = entries_[*state % kSlots];
    *state = entry.frequency * (*state >> kSlotBits) + (entry.offset_and_index >> 2);
    return static_cast<int8_t>((entry.offset_and_index & 3) - 1);
  }

 private:
  struct Entry {
    uint16_t frequency, offset_and_index;  // the slot's offset from the first of its code times 4, plus code + 1
  };
  std::array<Entry, kSlots> entries_;
};

Status Refused(const char* what) { return ModelFormat(std::string("entropy-coded trits: ") + what); }

}  // namespace

Status CheckTritRansSize(uint64_t bytes, uint64_t n) {
  if (bytes >= kHeaderBytes && bytes % 2 == 0 && n / kMaxCodesPerByte + (n % kMaxCodesPerByte != 0) <= bytes) return {};
  return ModelFormat("entropy-coded trits: " + std::to_string(bytes) + " bytes are no stream of " + std::to_string(n) + " codes");
}

Result<std::vector<uint8_t>> PackTritRans(Span<const int8_t> codes) {
  PQI_RETURN_IF_ERROR(CheckRange(codes, -1, 1));
  const Symbols symbols = SymbolsOfCounts(CountsOf(codes));
  std::array<uint32_t, kLanes> states;
  states.fill(kLowest);
  std::vector<uint16_t> words;  // last first
  for (size_t i = codes.size(); i-- > 0;) {
    uint32_t& state = states[i % kLanes];
    const Symbol symbol = symbols[static_cast<size_t>(codes[i] + 1)];
    if (state >> 20 >= symbol.frequency) {
      words.push_back(static_cast<uint16_t>(state));
      state >>= 16;
    }
    state = (state / symbol.frequency << kSlotBits) + state % symbol.frequency + symbol.begin;
  }
  std::vector<uint8_t> out(kHeaderBytes + 2 * words.size());
  StoreU16(out.data(), symbols[0].frequency);
  StoreU16(out.data() + 2, symbols[2].frequency);
  for (size_t lane = 0; lane < kLanes; ++lane) StoreU32(out.data() + 4 + 4 * lane, states[lane]);
  for (size_t i = 0; i < words.size(); ++i) StoreU16(out.data() + kHeaderBytes + 2 * i, words[words.size() - 1 - i]);
  return out;
}

Status UnpackTritRans(Span<const uint8_t> bytes, Span<int8_t> codes) {
  PQI_RETURN_IF_ERROR(CheckTritRansSize(bytes.size(), codes.size()));
  const uint32_t minus = LoadU16(bytes.data()), plus = LoadU16(bytes.data() + 2);
  if (minus < kMinFrequency || plus < kMinFrequency || minus + plus > kSlots - kMinFrequency) {
    return Refused("a frequency is below 4");
  }
  std::array<uint32_t, kLanes> states;
  for (size_t lane = 0; lane < kLanes; ++lane) {
    states[lane] = LoadU32(bytes.data() + 4 + 4 * lane);
    if (states[lane] < kLowest) return Refused("a state is below 65536");
  }
  const Symbols symbols = SymbolsOf(minus, plus);
  const Decoder decoder(symbols);
  const uint8_t* next = bytes.data() + kHeaderBytes;
  const uint8_t* const end = bytes.data() + bytes.size();
  size_t i = 0;
  // A round of four codes reads at most four words, so one look at what is left is enough for it.
  for (; codes.size() - i >= kLanes && end - next >= static_cast<std::ptrdiff_t>(2 * kLanes); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      codes[i + lane] = decoder.Take(&states[lane]);
      if (states[lane] >= kLowest) continue;
      states[lane] = states[lane] << 16 | LoadU16(next);
      next += 2;
    }
  }
  for (; i < codes.size(); ++i) {
    uint32_t& state = states[i % kLanes];
    codes[i] = decoder.Take(&state);
    if (state >= kLowest) continue;
    if (next == end) return Refused("the stream ends too early");
    state = state << 16 | LoadU16(next);
    next += 2;
  }
  if (next != end) return Refused("bytes are left behind the last code");
  if (std::any_of(states.begin(), states.end(), [](uint32_t x) { return x != kLowest; })) return Refused("the last state is not 65536");
  const Symbols counted = SymbolsOfCounts(CountsOf(codes));
  if (counted[0].frequency != minus || counted[2].frequency != plus) return Refused("the frequencies are not those of the codes");
  return {};
}

}  // namespace pqi
