// Layers whose weights are mostly zero: additions in place of products (sparse.cc).
#pragma once

#include "conv/layout.h"

namespace pqi::conv {

Algorithm SparseAlgorithm();

}  // namespace pqi::conv
