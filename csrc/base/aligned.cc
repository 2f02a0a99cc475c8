#include "base/aligned.h"

namespace pqi {

void* AllocateAligned(size_t bytes) {
  if (bytes == 0) return nullptr;
  void* memory = ::operator new(bytes, std::align_val_t{kAlignment});
  std::memset(memory, 0, bytes);
  return memory;
}

void FreeAligned(void* memory) noexcept { ::operator delete(memory, std::align_val_t{kAlignment}); }

}  // namespace pqi
