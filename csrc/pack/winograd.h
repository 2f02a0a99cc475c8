// A Winograd layer, block of tiles by block of tiles: input transform, the products of each position and panel, output transform with the
// epilogue.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/contract/output.h"
#include "kernels/kernel_set.h"
#include "pack/conv.h"
#include "pack/layout.h"

namespace pqi::pack {

// Scratch of one thread.
size_t WinogradScratchBytes(const ConvLayout& layout, const kernels::ConvShape& shape);

// A packed layer, as RunWinograd reads it.
struct WinogradLayer {
  const kernels::KernelSet& set;
  const ConvLayout& layout;
  const uint8_t* buffer;
  const LeastCodes& least;
  int32_t step, zero_point, qmin, qmax;
  const kernels::Output& output;
};
// Rows of the part are tiles (OutputUnits).
void RunWinograd(const WinogradLayer& layer, const ConvRun<uint8_t>& run, const ConvPart& part, void* scratch) noexcept;

}  // namespace pqi::pack
