#include "base/aligned.h"

#include <cstdlib>
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace pqi {
namespace {

// Weights of this size begin on a huge page, and the system is asked for such pages: thousands of small ones would not fit
// the TLB, and prefetchers stop at their ends.
constexpr size_t kHugePage = size_t{2} << 20;

}  // namespace

void* AllocateAligned(size_t bytes) {
  if (bytes == 0) return nullptr;
  void* memory = nullptr;
  if (posix_memalign(&memory, bytes >= kHugePage ? kHugePage : kAlignment, bytes) != 0) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
  if (bytes >= kHugePage) madvise(memory, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);  // a wish: it may be refused
#endif
  std::memset(memory, 0, bytes);
  return memory;
}

void FreeAligned(void* memory) noexcept { std::free(memory); }

}  // namespace pqi
