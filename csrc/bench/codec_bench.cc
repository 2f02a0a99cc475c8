// The time that a file's ternary weights take to decode, which is part of every load.
#include "bench/common.h"
#include "codec/codec.h"
#include "codec/trit_rans.h"

namespace pqi::bench {
namespace {

constexpr size_t kCodes = 9 * 512 * 512;  // the largest layer of ResNet-18

std::vector<int8_t> Trits(int percent_of_zeros) {
  std::vector<int8_t> codes(kCodes);
  std::minstd_rand engine(1);
  for (int8_t& code : codes)
    code = static_cast<int8_t>(engine() / 7 % 100 < static_cast<unsigned>(percent_of_zeros) ? 0 : engine() / 7 % 2 * 2 - 1);
  return codes;
}

template <typename Unpack>
void Register(const std::string& name, std::vector<uint8_t> bytes, Unpack unpack) {
  benchmark::RegisterBenchmark(("codec/" + name).c_str(), [bytes = std::move(bytes), unpack](benchmark::State& state) {
    std::vector<int8_t> codes(kCodes);
    for (auto _ : state) {
      if (!unpack(bytes, codes).ok()) state.SkipWithError("not decoded");
      benchmark::DoNotOptimize(codes.data());
    }
    state.counters["codes/s"] =
        benchmark::Counter(static_cast<double>(kCodes) * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
    state.counters["bits/code"] = 8.0 * static_cast<double>(bytes.size()) / static_cast<double>(kCodes);
  });
}

}  // namespace

void RegisterCodecs() {
  for (int zeros : {33, 50, 70, 90, 97}) {
    Register("trit_rans/zeros:" + std::to_string(zeros), PackTritRans(Trits(zeros)).value(),
             [](Span<const uint8_t> bytes, Span<int8_t> codes) { return UnpackTritRans(bytes, codes); });
  }
  std::vector<uint8_t> bytes(static_cast<size_t>(TritBytes(kCodes)));
  if (PackTrits(Trits(90), bytes).ok()) {
    Register("trit5/zeros:90", bytes, [](Span<const uint8_t> packed, Span<int8_t> codes) { return UnpackTrits(packed, codes); });
  }
}

}  // namespace pqi::bench
