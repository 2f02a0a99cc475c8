// What an algorithm costs, in cycles of one core. Only the order of two algorithms' costs matters.
#pragma once

#include "base/isa.h"
#include "conv/layout.h"
#include "kernels/shapes.h"

namespace pqi::plan {

// `shape` with its image; `layout` is that of the algorithm in question on this ISA, for which IsaHasCosts (base/isa.h). two_dot_ports:
// does the CPU have two ports for dot products of 512 bits? Such a CPU has no others for additions beside them.
double EstimateCycles(Isa isa, bool two_dot_ports, const kernels::ConvShape& shape, const conv::ConvLayout& layout);

}  // namespace pqi::plan
