#include "fuzz/draft.h"

#include <cstring>
#include <vector>

#include "fuzz/target.h"
#include "graph/constants.h"
#include "graph/parse.h"
#include "graph/write.h"
#include "ops/op.h"

namespace pqi::fuzz {
namespace {

constexpr uint64_t kMostElements = 1 << 16;

template <typename T>
void Store(std::vector<uint8_t>* bytes, size_t index, T value) {
  std::memcpy(bytes->data() + index * sizeof value, &value, sizeof value);
}

std::vector<uint8_t> Elements(const Constant& c, size_t count, Random* random, bool ones) {
  std::vector<uint8_t> bytes(count * LogicalElementBytes(c.type), 1);
  for (size_t i = 0; i < count; ++i) {
    const uint32_t r = random->Next();
    switch (c.type) {
      case ConstType::kF32: {
        const bool positive = c.name == kActivationScales || c.name.find("scale") != std::string::npos;
        Store(&bytes, i,
              ones       ? 1.0f
              : positive ? 0.03f + static_cast<float>(r % 100) * 0.01f
                         : static_cast<float>(static_cast<int32_t>(r)) * 0x1p-31f);
        break;
      }
      case ConstType::kI32:
        Store(&bytes, i, ones ? 0 : static_cast<int32_t>(r % 200) - 100);
        break;
      case ConstType::kU8:
        bytes[i] = ones ? 1 : 0;
        break;
      case ConstType::kCode: {
        const int range = c.packing == Packing::kTrit5 || c.packing == Packing::kTritRans ? 3 : 1 << c.bits;
        if (!ones) bytes[i] = static_cast<uint8_t>(static_cast<int>(r % static_cast<uint32_t>(range)) - range / 2);
        break;
      }
    }
  }
  return bytes;
}

}  // namespace

std::optional<AlignedBuffer<uint8_t>> WriteDraft(std::string_view text, uint32_t seed) {
  const Result<ParsedGraph> parsed = ParseGraph(text, GraphSource::kDraft);
  if (!parsed.ok()) {
    RequireGoodError(parsed.status(), true);
    return std::nullopt;
  }
  const std::vector<Constant>& constants = parsed.value().graph.constants;
  std::vector<std::vector<uint8_t>> elements;
  std::vector<LogicalArray> arrays;
  Random random(seed);
  uint64_t total = 0;
  for (const Constant& constant : constants) {
    const uint64_t count = static_cast<uint64_t>(constant.element_count());
    if ((total += count) > kMostElements) return std::nullopt;
    elements.push_back(Elements(constant, static_cast<size_t>(count), &random, seed == 0));
  }
  for (size_t i = 0; i < constants.size(); ++i) arrays.push_back({constants[i].type, constants[i].shape, elements[i]});
  Result<AlignedBuffer<uint8_t>> file = WriteGraph(text, arrays, "fuzz", ops::FindOpDef);
  if (file.ok()) return std::move(file).value();
  RequireGoodError(file.status(), true);
  return std::nullopt;
}

}  // namespace pqi::fuzz
