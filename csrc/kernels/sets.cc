#include "kernels/sets.h"

namespace pqi::kernels {

const KernelSet* GetKernelSet(Isa isa) {
  switch (isa) {
#define PQI_KERNEL_SET(enumerator, name) \
  case Isa::enumerator:                  \
    return &name;
#include "kernels/list.inc"
#undef PQI_KERNEL_SET
    default:
      return nullptr;
  }
}

}  // namespace pqi::kernels
