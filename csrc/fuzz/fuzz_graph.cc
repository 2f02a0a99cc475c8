// Loads a graph's text that the fuzzer makes up, in a file around it.
#include <utility>

#include "fuzz/draft.h"
#include "fuzz/load.h"
#include "fuzz/target.h"

void pqi::fuzz::One(const uint8_t* data, size_t size) {
  if (auto file = WriteDraft({reinterpret_cast<const char*>(data), size}, 0)) Load(std::move(*file));
}
