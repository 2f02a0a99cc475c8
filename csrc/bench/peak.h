// The multiply-add rate of one core, measured: what a kernel's speed is divided by.
#pragma once

#include "base/isa.h"

namespace pqi::bench {

enum class Product { kU8S8, kF32 };

// Multiply-accumulates per second of the instructions that this ISA's exact kernels use (vpdpbusd; vpmaddwd and vpaddd; vfmadd231ps) in a
// loop that does nothing else. Measured once per process; 0 where there is no such loop for the ISA.
double PeakMacs(Isa isa, Product product);

}  // namespace pqi::bench
