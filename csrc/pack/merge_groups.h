// Groups of a convolution made one: its weights between channels of different groups are zeros.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/shapes.h"

namespace pqi::pack {

// The shape with `merged` groups in the place of each one, and its codes [oc][kh][kw][c/groups]. Sums of codes stay the same integers,
// because a zero adds nothing whatever it meets. (Floats have infinities, whose product with zero is NaN.) `merged` divides the groups.
kernels::ConvShape MergedShape(const kernels::ConvShape& shape, int64_t merged);
std::vector<int8_t> MergedCodes(const kernels::ConvShape& shape, const std::vector<int8_t>& codes, int64_t merged);

}  // namespace pqi::pack
