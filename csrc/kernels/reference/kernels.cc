// The kernel set of ISA "reference": elementwise functions in plain C++, and no tiles (kernels/kernel_set.h).
#include "kernels/reference/elementwise.h"
#include "kernels/reference/functions.h"
#include "kernels/reference/linear_dynamic.h"
#include "kernels/reference/quantize.h"
#include "kernels/reference/softmax_norm.h"
#include "kernels/sets.h"

namespace pqi::kernels {
namespace reference {
namespace {

void AddU8(const uint8_t* a, const Affine& pa, const uint8_t* b, const Affine& pb, size_t n, const Output& o, void* y) noexcept {
  Add({a, nullptr, pa}, {b, nullptr, pb}, n, o, y);
}

void AddF32(const float* a, const float* b, size_t n, const Output& o, void* y) noexcept {
  Add({nullptr, a, {}}, {nullptr, b, {}}, n, o, y);
}

constexpr KernelSet MakeKernelSet() {
  KernelSet set = {};
  set.isa = Isa::kReference;
  set.quantize = &Quantize;
  set.range = &Range;
  set.quantize_to_nhwc = &QuantizeToNhwc;
  set.dequantize = &Dequantize;
  set.add_u8 = &AddU8;
  set.add_f32 = &AddF32;
  set.unary = &ApplyUnary;
  set.binary = &Binary;
  set.prelu = &PreluChannels;
  set.affine = &AffineChannels;
  set.clamp = &Clamp;
  set.softmax = &Softmax;
  set.normalize = &Normalize;
  set.table = &Table;
  set.max_u8 = &MaxU8;
  set.sum_u8 = &SumU8;
  set.sum_lanes = &SumLanes;
  return set;
}

}  // namespace
}  // namespace reference

constexpr KernelSet kReferenceKernels = reference::MakeKernelSet();

}  // namespace pqi::kernels
