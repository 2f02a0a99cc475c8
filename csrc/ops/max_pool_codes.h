// The largest codes of windows, in two steps: down the lines under a row of windows, then across.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/kernel_set.h"
#include "kernels/shapes.h"

namespace pqi::ops {

// Bytes of scratch memory that one thread needs.
size_t MaxPoolCodesScratch(const kernels::PoolShape& s);

// Computes output pixels [begin, end). Every window has a pixel inside the image.
void MaxPoolCodes(const kernels::KernelSet& set, const kernels::PoolShape& s, const uint8_t* x, uint8_t* y, int64_t begin, int64_t end,
                  uint8_t* scratch) noexcept;

}  // namespace pqi::ops
