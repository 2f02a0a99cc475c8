// The running half of conv2d and linear: a linear layer over m rows is a 1x1 convolution.
#pragma once

#include "kernels/shapes.h"
#include "ops/op.h"
#include "ops/schema.h"

namespace pqi::ops {

// A layer's geometry without its image: n, h, w come with each run.
struct ConvGeometry {
  kernels::ConvShape shape;
  bool linear = false;

  kernels::ConvShape Bind(const ConcreteShape& in) const;
};

// Plans, packs and describes the layer of a node.
Result<std::unique_ptr<Step>> MakeConvStep(const PrepareContext& context, const ConvGeometry& geometry, const Bounds& activation);

// Multiply-accumulates of a convolution, INT64_MAX where they are more.
int64_t ConvMacs(const kernels::ConvShape& shape);

}  // namespace pqi::ops
