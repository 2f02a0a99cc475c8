// The one list of ops.
#include <cstring>

#include "ops/families.h"

namespace pqi::ops {
namespace {

const Op* const kOps[] = {
    &kQuantize,
    &kDequantize,
    &kTranspose,
    &kReshape,
    &kConv2d,
    &kLinear,
    &kLinearDynamic,
    &kAdd,
    &kClamp,
    &kAffine,
    &kTable,
    &kMaxPool2d,
    &kAvgPool2d,
    &kAdaptiveAvgPool2d,
    &kMean,
    &kUnary,
    &kPrelu,
    &kBinary,
    &kReduce,
    &kSoftmax,
    &kMatmul,
    &kLayerNorm,
    &kGroupNorm,
    &kEmbedding,
    // Movement and space.
    &kConcat,
    &kSlice,
    &kPad,
    &kUpsample,
    &kPixelShuffle,
    &kConstant,
    &kExpand,
};

}  // namespace

const Op* FindOp(const std::string& name) {
  for (const Op* op : kOps) {
    if (name == op->def.name) return op;
  }
  return nullptr;
}

const OpDef* FindOpDef(const std::string& name) {
  const Op* op = FindOp(name);
  return op ? &op->def : nullptr;
}

Span<const Op* const> AllOps() { return {kOps, sizeof kOps / sizeof *kOps}; }

}  // namespace pqi::ops
