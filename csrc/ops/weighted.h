// What conv2d and linear share: constants, quantized grids, the proofs of docs/numerics.md, and expansion to float.
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "graph/op_def.h"
#include "ops/schema.h"

namespace pqi::ops {

// Reads `step` and the activation, checks dtypes of x, residual and y, and the constants weight (of `weight_rank`), scale, bias, base.
Status CheckWeighted(const NodeView& view, size_t weight_rank, AttrReader* attrs);

// The residual, where there is one, has the output's shape.
Status CheckResidual(const NodeView& view, const std::vector<Shape>& inputs, const Shape& out);

// For integer layers: |acc| <= 2^31 - 1 for every output channel whatever the input codes are, and every s_a * s_w[c] normal.
// For float layers with code weights: every expanded weight finite.
Status ProveWeighted(const NodeView& view);

inline bool IsInteger(const NodeView& view) { return view.input(0).dtype == DType::kU8; }
inline bool HasResidual(const NodeView& view) { return view.node.inputs.size() == 2; }

// A float layer's weights in the order of the file: as stored, or f32(f32(step*code + base[c]) * s_w[c]), c a channel or
// one of its groups.
Result<std::vector<float>> FloatWeights(const NodeView& view);

// Constants scale and base of a linear layer: both [O], or both [O, G] where G divides the inputs.
Status CheckGroupScales(const NodeView& view);

// As ProveWeighted for weights with such scales, and codes at run time that lie at most `reach` from their zero point.
Status ProveGroups(const NodeView& view, int64_t reach);

// Unpacked codes of the weight, row-major.
Result<std::vector<int8_t>> Codes(const NodeView& view);

// f32(s_a * s_w[c]).
std::vector<float> ScaleProducts(const NodeView& view);

}  // namespace pqi::ops
