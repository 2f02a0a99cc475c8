// What conv2d and linear share: constants, quantized grids, the proofs of docs/numerics.md, and expansion to float.
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "graph/op_def.h"
#include "ops/schema.h"

namespace pqi::ops {

// Reads the attributes `step` and activation, and checks the types of x, residual and y and the constants weight (which has `weight_rank`
// dimensions), scale, bias and base.
Status CheckWeighted(const NodeView& view, size_t weight_rank, AttrReader* attrs);

// Checks that the residual, where there is one, has the output's shape.
Status CheckResidual(const NodeView& view, const std::vector<Shape>& inputs, const Shape& out);

// Proves what docs/numerics.md asks of the constants. An integer layer: |acc| <= 2^31 - 1 for every output channel whatever the input codes
// are, and every s_a * s_w[c] is normal. A float layer with code weights: every expanded weight is finite.
Status ProveWeighted(const NodeView& view);

inline bool IsInteger(const NodeView& view) { return view.input(0).dtype == DType::kU8; }
inline bool HasResidual(const NodeView& view) { return view.node.inputs.size() == 2; }

// A float layer's weights in the order of the file: as stored, or expanded to f32(f32(step*code + base[c]) * s_w[c]), where c is a channel
// or one of its groups.
Result<std::vector<float>> FloatWeights(const NodeView& view);

// Checks the constants scale and base of a linear layer: both are [O], or both [O, G] where G divides the inputs.
Status CheckGroupScales(const NodeView& view);

// Proves |acc| <= 2^31 - 1 for weights with a scale per group, and codes made at run time that lie at most `reach` from their zero point.
Status ProveGroups(const NodeView& view, int64_t reach);

// The codes of the weight, one per byte, row-major.
Result<std::vector<int8_t>> Codes(const NodeView& view);

// f32(s_a * s_w[c]) of every output channel.
std::vector<float> ScaleProducts(const NodeView& view);

}  // namespace pqi::ops
