// What an algorithm costs, in cycles of one core. Only the order of two algorithms' costs matters.
#pragma once

#include "base/isa.h"
#include "kernels/shapes.h"
#include "pack/layout.h"

namespace pqi::plan {

// Only where costs were measured does the planner leave the direct way of its own accord.
inline bool HasCosts(Isa isa) { return isa == Isa::kAvx512Vnni || isa == Isa::kAvx2; }

// `shape` with its image; `layout` of the algorithm in question on this ISA. two_dot_ports: of AVX512-VNNI; such a CPU has no others for
// additions beside them.
double EstimateCycles(Isa isa, bool two_dot_ports, const kernels::ConvShape& shape, const pack::ConvLayout& layout);

}  // namespace pqi::plan
