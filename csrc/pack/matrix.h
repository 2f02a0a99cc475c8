// A convolution or linear layer on matrix registers (kernels/contract/matrix.h, TileMatrixU8S8): bands of output rows, whose input is
// copied into padded images first so that all windows are evenly spaced, or read in place for 1x1.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/contract/output.h"
#include "kernels/kernel_set.h"
#include "pack/conv.h"
#include "pack/layout.h"

namespace pqi::pack {

// Is there a matrix kernel, and does it suit the layer? Grouped layers and weights with a base go to the tiles.
bool SuitsMatrix(const kernels::KernelSet& set, const kernels::ConvShape& shape, bool has_base);
// Sets method, taps, k, tile and panels. k is that of a window row (kw * c) where its pixels are neighbours, else of one tap.
void LayoutMatrix(const kernels::ConvShape& shape, ConvLayout* layout);
// One panel of n <= nr channels; channel c of the source starts at channels + c * taps * k, taps in order. The padding is left as it is.
void PackMatrixPanel(const ConvLayout& layout, const int8_t* channels, int64_t n, int8_t* panel);

int64_t MatrixUnits(const kernels::ConvShape& shape);
// Work::macs_per_byte: measured 1,500 GMAC/s against 29 GB/s.
inline constexpr int64_t kMatrixMacsPerByte = 50;
size_t MatrixScratchBytes(const ConvLayout& layout, const kernels::ConvShape& shape);

// A packed layer, as RunMatrix reads it. step is 1 or 2.
struct MatrixLayer {
  const kernels::KernelSet& set;
  const ConvLayout& layout;
  const uint8_t* buffer;
  int32_t step, zero_point;
  const kernels::Output& output;
};
// Rows of the part are output rows of all images (OutputUnits), pixels for 1x1 layers that are read in place.
void RunMatrix(const MatrixLayer& layer, const ConvRun<uint8_t>& run, const ConvPart& part, void* scratch) noexcept;

}  // namespace pqi::pack
