// The kernel set of an ISA, made from its primitives (kernels/generic/primitives.h).
#pragma once

#include <type_traits>

#include "kernels/contract/depthwise.h"
#include "kernels/contract/tile.h"
#include "kernels/generic/binary.h"
#include "kernels/generic/depthwise.h"
#include "kernels/generic/depthwise_columns.h"
#include "kernels/generic/elementwise.h"
#include "kernels/generic/low_bit.h"
#include "kernels/generic/matrix_band.h"
#include "kernels/generic/narrow.h"
#include "kernels/generic/primitives.h"
#include "kernels/generic/softmax_norm.h"
#include "kernels/generic/sparse.h"
#include "kernels/generic/tile.h"
#include "kernels/generic/unary.h"
#include "kernels/generic/winograd.h"
#include "kernels/kernel_set.h"

namespace pqi::kernels {
namespace {

template <class S, int MR>
constexpr void FillU8S8(KernelSet& set) {
  set.u8s8_tile[MR - 1] = &TileU8S8Kernel<S, MR>;
  if constexpr (MR > 1) FillU8S8<S, MR - 1>(set);
}

template <class S, int MR>
constexpr void FillPairs(KernelSet& set) {
  if constexpr (MR > 0) {
    set.u8s8_pairs_tile[MR - 1] = &TileU8S8PairsKernel<S, MR>;
    FillPairs<S, MR - 1>(set);
  }
}

template <class S, int MR>
constexpr void FillF32(KernelSet& set) {
  set.f32_tile[MR - 1] = &TileF32Kernel<S, MR>;
  if constexpr (MR > 1) FillF32<S, MR - 1>(set);
}

template <class S>
constexpr KernelSet MakeKernelSet(Isa isa) {
  static_assert(OffersPrimitives<S>(), "");
  static_assert(S::kU8S8.mr <= kMaxMr && S::kF32.mr <= kMaxMr && kDepthwisePad % S::kLanes == 0, "");
  KernelSet set = {};
  set.isa = isa;
  set.u8s8 = S::kU8S8;
  set.u8s8_offset = S::kOffset;
  if constexpr (!std::is_void_v<typename S::Matrix>) {
    set.begin_tiles = &S::Matrix::Begin;
    set.end_tiles = &S::Matrix::End;
    set.u8s8_matrix = &MatrixBandKernel<S>;
  }
  set.f32 = S::kF32;
  FillU8S8<S, S::kU8S8.mr>(set);
  set.u8s8_pairs_mr = S::kPairsRows;
  FillPairs<S, S::kPairsRows>(set);
  FillF32<S, S::kF32.mr>(set);
  FillLowBit<S>(set);
  FillNarrow<S>(set);
  FillWinograd<S>(set);
  FillSparse<S>(set);
  set.u8s8_depthwise = &DepthwiseU8S8Kernel<S>;
  set.u8s8_depthwise_columns = &DepthwiseColumnsU8S8Kernel<S>;
  set.f32_depthwise = &DepthwiseF32Kernel<S>;
  set.quantize = &QuantizeKernel<S>;
  set.range = &RangeKernel<S>;
  set.quantize_to_nhwc = &QuantizeToNhwcKernel<S>;
  set.dequantize = &DequantizeKernel<S>;
  set.add_u8 = &AddU8Kernel<S>;
  set.add_f32 = &AddF32Kernel<S>;
  set.unary = &UnaryKernel<S>;
  set.binary = &BinaryKernel<S>;
  set.prelu = &PreluKernel<S>;
  set.affine = &AffineKernel<S>;
  set.clamp = &ClampKernel<S>;
  set.softmax = &SoftmaxKernel<S>;
  set.normalize = &NormalizeKernel<S>;
  set.table = &TableKernel<S>;
  set.max_u8 = &MaxU8Kernel<S>;
  set.sum_u8 = &SumU8Kernel<S>;
  set.sum_lanes = &SumLanesKernel<S>;
  return set;
}

}  // namespace
}  // namespace pqi::kernels
