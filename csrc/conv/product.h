// How tile kernels multiply u8 activations by s8 codes.
#pragma once

#include <cstdint>

#include "kernels/contract/tile.h"
#include "kernels/kernel_set.h"

namespace pqi::conv {

enum class Product : uint8_t { kDot, kInnerProduct, kDeferred };
inline constexpr int kProducts = 3;

struct ProductWay {
  Product product;
  const char* name;    // in the name of an algorithm; "" where there is nothing to say
  const char* suffix;  // of executed_as
  kernels::U8S8Kernels kernels::KernelSet::* kernels;
};

// One row per enumerator, in their order.
inline constexpr ProductWay kProductWays[kProducts] = {
    {Product::kDot, "", "", &kernels::KernelSet::u8s8_dot},
    {Product::kInnerProduct, "fip", "-fip", &kernels::KernelSet::u8s8_inner_product},
    {Product::kDeferred, "deferred", "-deferred", &kernels::KernelSet::u8s8_deferred},
};

inline const ProductWay& WayOf(Product product) { return kProductWays[static_cast<int>(product)]; }
inline const kernels::U8S8Kernels& KernelsOf(const kernels::KernelSet& set, Product product) { return set.*WayOf(product).kernels; }

}  // namespace pqi::conv
