// Layers whose weights are mostly zero (sparse.cc): their algorithm, and how much work they are, for the layout, which chooses among cuts,
// and for the planner.
#pragma once

#include "conv/layout.h"
#include "kernels/shapes.h"

namespace pqi::conv {

Algorithm SparseAlgorithm();

// Of a whole run; vectors are those of the kernel set.
struct SparseWork {
  double additions = 0;     // vectors that are loaded and added
  double offsets = 0;       // non-zeros that are looked up
  double steps = 0;         // ends of steps
  double step_vectors = 0;  // vectors that steps widen and store
  double planes = 0;        // vectors of planes that are made
  double outputs = 0;       // vectors of output positions that are finished, one channel each
};
SparseWork CountSparseWork(const ConvLayout& layout, const kernels::ConvShape& shape);

}  // namespace pqi::conv
