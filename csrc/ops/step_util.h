// Graph parameters in the kernels' terms.
#pragma once

#include "graph/op_def.h"
#include "kernels/contract/output.h"
#include "kernels/kernel_set.h"
#include "kernels/shapes.h"
#include "ops/op.h"
#include "ops/schema.h"
#include "ops/window.h"

namespace pqi::ops {

// Elements worth waking a thread for, in operations that touch each element once.
inline constexpr int64_t kGrain = 16384;
// Multiply-accumulates worth waking a thread for.
inline constexpr int64_t kMacGrain = int64_t{1} << 18;

kernels::Affine AffineOf(const Quant& q);
// Gives the parameters of a u8 value, and for f32 the default.
kernels::Affine AffineOf(const Graph& graph, const Value& value);
// Says how results reach the node's output 0 after an activation with these bounds.
kernels::Output OutputOf(const NodeView& view, const Bounds& activation = kNoActivation);

// Names what runs on this set's elementwise kernels: "elementwise-avx2", or "reference".
std::string ElementwiseName(const kernels::KernelSet& set);

// Gives a pool's geometry, first without an image, then with the image of a run.
kernels::PoolShape PoolShapeOf(const WindowAxis& rows, const WindowAxis& columns);
kernels::PoolShape BindPool(const kernels::PoolShape& shape, const ConcreteShape& in, const ConcreteShape& out);

// Calls fn(x, y) with input 0 and the output as arrays of floats, or of bytes: `element_size` is 4 or 1. For steps that move elements.
template <typename Fn>
void ByElementSize(const RunArgs& args, size_t element_size, Fn&& fn) {
  if (element_size == sizeof(float)) {
    fn(args.in[0].f32(), args.out.mutable_f32());
  } else {
    fn(args.in[0].u8(), args.out.mutable_u8());
  }
}

// Gives the address of element i of an output that is codes or float32.
inline void* OutputAt(void* y, const kernels::Output& o, int64_t i) {
  return static_cast<uint8_t*>(y) + (o.f32 ? static_cast<int64_t>(sizeof(float)) * i : i);
}

}  // namespace pqi::ops
