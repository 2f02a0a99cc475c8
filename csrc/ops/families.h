// Declarations of all ops, each defined in the file that list.inc names.
#pragma once

#include "ops/op.h"

namespace pqi::ops {

#define PQI_OP(op, file) extern const Op op;
#include "ops/list.inc"
#undef PQI_OP

}  // namespace pqi::ops
