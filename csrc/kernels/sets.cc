#include "kernels/sets.h"

namespace pqi::kernels {

const KernelSet* GetKernelSet(Isa isa) {
  switch (isa) {
#define PQI_ISA(enumerator, name, set, architecture, ...) architecture(case Isa::enumerator : return &set;)
#include "base/isa.inc"
#undef PQI_ISA
    default:
      return nullptr;
  }
}

}  // namespace pqi::kernels
