// A method is a way to run a convolution: how it reads windows, in which order it lays weights, what it computes at a time. All methods
// give the same bits, so a layer's method is a matter of time only.
//
// A new method is one file that defines its row, and one line of list.inc (docs/architecture.md, "Adding").
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/aligned.h"
#include "base/span.h"
#include "conv/exact.h"
#include "conv/layout.h"
#include "conv/run.h"
#include "conv/split.h"
#include "kernels/contract/output.h"
#include "kernels/kernel_set.h"
#include "kernels/shapes.h"
#include "pack/low_bit.h"
#include "pack/pairs.h"
#include "pack/sparse_lists.h"
#include "pack/weights.h"

namespace pqi::conv {

// Packed weights: the layout's buffer, and what only the codes decide.
struct Packed {
  AlignedBuffer<uint8_t> buffer;
  pack::LeastCodes least = {};  // inner products only
  // Winograd only: what is added to each position of the transformed input, modulo 256, so that codes never fall below 0.
  std::array<uint8_t, pack::kMostPositions> raised = {};
  pack::PairExtras pairs;    // used() where the tiles run in pairs
  pack::SparseLists sparse;  // the sparse method only
};

// A packed layer in a run.
struct LayerU8 {
  const kernels::KernelSet& set;
  const ConvLayout& layout;
  const Packed& packed;
  int32_t step, zero_point;  // pack::WeightsU8
  // ConvRun::output with `saturates` proved where it holds (kernels/contract/output.h).
  const kernels::Output& output;

  template <typename T>
  const T* At(size_t offset) const {
    return reinterpret_cast<const T*>(packed.buffer.data() + offset);
  }
  const int8_t* weights() const { return At<int8_t>(layout.weights); }
  const int32_t* init() const { return At<int32_t>(layout.init); }
  const float* scale() const { return At<float>(layout.scale); }
  const float* bias() const { return layout.has_bias ? At<float>(layout.bias) : nullptr; }
  const int32_t* base() const { return layout.has_base ? At<int32_t>(layout.base) : nullptr; }
};
struct LayerF32 {
  const kernels::KernelSet& set;
  const ConvLayout& layout;
  const uint8_t* buffer;

  const float* weights() const { return reinterpret_cast<const float*>(buffer + layout.weights); }
  const float* bias() const { return layout.has_bias ? reinterpret_cast<const float*>(buffer + layout.bias) : nullptr; }
};

// How a session shows what runs a layer.
struct Words {
  std::string suffix;  // of executed_as: "-winograd1d" in "u8s8-winograd1d-avx512vnni"
  std::string reason;  // why this method, in a sentence
};

// Algorithms beside the direct one, for the planner to choose from and for callers to ask for by name.
struct Alternative {
  std::string name;  // docs/api: Session(algorithm=)
  Algorithm algorithm;
};
struct Alternatives {
  Span<const Alternative> (*list)();
  // Has the kernel set what the algorithm needs?
  bool (*has_kernels)(const kernels::KernelSet& set, const Algorithm& algorithm);
  // Why the layer's shape does not suit the algorithm, or "". has_kernels holds.
  std::string (*misfit)(const Request& request);
  // Is the result exact for the codes that the layer really has? misfit is "".
  Proof (*prove)(const Request& request, const CodeRanges& ranges);
};

struct ConvMethod {
  const char* name;

  // Can it run the layer? The first method of the table that says so does. Where an algorithm names its method, only that one is asked for.
  bool (*suits)(const Request& request);
  // Completes taps, k, tile, panels, panel_bytes, channels and what else the method needs; the other fields are set before or afterwards.
  void (*layout)(const Request& request, ConvLayout* layout);
  // Fills the arrays of weights and start values in packed->buffer, which is zeroed; the other arrays are filled for it. Throws
  // std::bad_alloc. nullptr where there is no kernel for the element type.
  void (*pack_u8)(const kernels::KernelSet& set, const ConvLayout& layout, const kernels::ConvShape& shape, const pack::WeightsU8& weights,
                  Packed* packed);
  void (*pack_f32)(const ConvLayout& layout, const kernels::ConvShape& shape, const pack::WeightsF32& weights, uint8_t* buffer);
  // Scratch memory of one thread in bytes, for a shape with its n, h and w.
  size_t (*scratch_bytes)(const ConvLayout& layout, const kernels::ConvShape& shape);
  // The output as pieces that can be computed apart.
  Work (*work)(const ConvLayout& layout, const kernels::ConvShape& shape);
  // Computes a part that has panels. `scratch` is 64-byte aligned. nullptr where there is no kernel for the element type.
  void (*run_u8)(const LayerU8& layer, const ConvRun<uint8_t>& run, const ConvPart& part, void* scratch) noexcept;
  void (*run_f32)(const LayerF32& layer, const ConvRun<float>& run, const ConvPart& part, void* scratch) noexcept;
  // tile_rows: rows that a tile's kernel computes at most.
  Words (*describe)(const ConvLayout& layout, int tile_rows);
  const Alternatives* alternatives;  // nullptr: the planner never has a choice here
};

#define PQI_CONV_METHOD(row, source) extern const ConvMethod row;
#include "conv/list.inc"
#undef PQI_CONV_METHOD

// Every method, in order of preference.
Span<const ConvMethod* const> AllMethods();
// The first that suits; there is always one.
const ConvMethod& MethodFor(const Request& request);

// Chooses the method and computes every size and offset; nothing changes them afterwards.
ConvLayout LayoutConvU8(const kernels::KernelSet& set, const kernels::ConvShape& shape, const pack::WeightsU8& weights,
                        const Algorithm& algorithm = {});
ConvLayout LayoutConvF32(const kernels::KernelSet& set, const kernels::ConvShape& shape, const pack::WeightsF32& weights);

// The rows of tiles that run: `layout.tile.mr`, or those of the kernels for pairs.
inline int TileRows(const kernels::KernelSet& set, const ConvLayout& layout, const Packed& packed) {
  return packed.pairs.used() ? set.u8s8_pairs_mr : layout.tile.mr;
}

// Packs the start values of the direct sums.
void PackStartValues(const ConvLayout& layout, const kernels::ConvShape& shape, const pack::WeightsU8& weights, Packed* packed);

// Work in units of which there are `units`, and whose bytes of input and products are shared out evenly.
Work EvenWork(const ConvLayout& layout, const kernels::ConvShape& shape, int64_t units);
// Work in output pixels.
Work PixelWork(const ConvLayout& layout, const kernels::ConvShape& shape);

}  // namespace pqi::conv
