// The rows of the registry, each defined in the file of its family.
#pragma once

#include "ops/op.h"

namespace pqi::ops {

extern const Op kQuantize, kDequantize;                 // quantize.cc
extern const Op kTranspose;                             // transpose.cc
extern const Op kReshape;                               // reshape.cc
extern const Op kConv2d, kLinear;                       // conv2d.cc, linear.cc
extern const Op kLinearDynamic;                         // linear_dynamic.cc
extern const Op kAdd, kClamp, kAffine, kTable;          // add.cc, elementwise.cc
extern const Op kMaxPool2d;                             // max_pool.cc
extern const Op kAvgPool2d, kAdaptiveAvgPool2d, kMean;  // avg_pool.cc
extern const Op kUnary, kPrelu;                         // unary.cc
extern const Op kBinary;                                // binary.cc

}  // namespace pqi::ops
