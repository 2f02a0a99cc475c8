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
extern const Op kSoftmax, kMatmul;                      // softmax.cc, matmul.cc
extern const Op kLayerNorm, kGroupNorm;                 // norm.cc
extern const Op kEmbedding;                             // embedding.cc
extern const Op kReduce;                                // reduce.cc
extern const Op kConcat, kSlice, kPad, kUpsample;       // concat.cc, slice.cc, pad.cc, upsample.cc
extern const Op kPixelShuffle;                          // pixel_shuffle.cc
extern const Op kConstant, kExpand;                     // constant.cc, expand.cc

}  // namespace pqi::ops
