// How a convolution or linear layer runs, in words for people.
#pragma once

#include <string>

#include "base/isa.h"
#include "pack/conv.h"

namespace pqi::plan {

struct Choice {
  std::string executed_as;  // "u8s8-avx512vnni"
  std::string reason;
};

// Arithmetic of a layer: integer, float as stored, or float because its input is float although its weights are codes.
enum class Arithmetic { kInteger, kFloat, kExpandedCodes };

Choice DescribeConv(const pack::ConvLayout& layout, Isa isa, Arithmetic arithmetic);

}  // namespace pqi::plan
