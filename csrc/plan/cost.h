// What an algorithm costs, in cycles of one core. Only the order of two algorithms' costs matters.
#pragma once

#include "base/isa.h"
#include "kernels/shapes.h"
#include "pack/layout.h"

namespace pqi::plan {

// `shape` with its image; `layout` of the algorithm in question on this ISA.
double EstimateCycles(Isa isa, const kernels::ConvShape& shape, const pack::ConvLayout& layout);

}  // namespace pqi::plan
