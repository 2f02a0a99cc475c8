#include "runtime/self_check.h"

#include "base/fpenv.h"
#include "kernels/sets.h"
#include "runtime/self_check_cases.h"

namespace pqi {
namespace self_check {
namespace {

using kernels::Affine;
using kernels::KernelSet;

// Compares one elementwise kernel of the set with the reference: both compute fn(set, y).
template <typename Fn>
bool Agrees(const KernelSet& set, bool f32, Fn&& fn) {
  std::vector<uint8_t> want(kCount * sizeof(float)), got(kCount * sizeof(float));
  fn(kernels::kReferenceKernels, want.data());
  fn(set, got.data());
  return Same(got, want, f32);
}

}  // namespace

std::string FindWrongElementwise(const KernelSet& set) {
  Operands operands;
  const auto a = operands.Integers<uint8_t>(kCount, 0, 255), b = operands.Integers<uint8_t>(kCount, 0, 255);
  const auto table = operands.Integers<uint8_t>(256, 0, 255);
  std::vector<float> x = operands.Floats(kCount, 8), z = operands.Floats(kCount, 8);
  const float special[] = {0.0f, -0.0f, 0.5f * 0.037f, 1.5f * 0.037f, 3e38f, -3e38f, 1e-40f, kInfinity, -kInfinity, std::nanf("")};
  std::copy(std::begin(special), std::end(special), x.begin() + 5);
  const Affine pa = {3, 0.05f}, pb = {200, 0.02f};
  const Output codes = Codes(9, -kInfinity), floats = Floats();
  using Bytes = uint8_t*;
  const auto as_floats = [](Bytes y) { return reinterpret_cast<float*>(y); };

  if (!Agrees(set, false, [&](const KernelSet& s, Bytes y) { s.quantize(x.data(), y, kCount, codes); })) return "quantize";
  const auto planes = operands.Floats(60, 8);
  for (size_t channels : {2, 3}) {
    if (!Agrees(set, false, [&](const KernelSet& s, Bytes y) { s.quantize_to_nhwc(planes.data(), 20, channels, 19, y, codes); })) {
      return "quantize to NHWC";
    }
  }
  if (!Agrees(set, true, [&](const KernelSet& s, Bytes y) { s.range(x.data(), kCount, as_floats(y), as_floats(y) + 1); })) return "range";
  if (!Agrees(set, true, [&](const KernelSet& s, Bytes y) { s.dequantize(a.data(), as_floats(y), kCount, pa); })) return "dequantize";
  if (!Agrees(set, false, [&](const KernelSet& s, Bytes y) { s.add_u8(a.data(), pa, b.data(), pb, kCount, codes, y); }))
    return "add of codes";
  if (!Agrees(set, true, [&](const KernelSet& s, Bytes y) { s.add_f32(x.data(), z.data(), kCount, floats, y); })) return "add of floats";
  for (int i = 0; i < kernels::kUnaryFunctions; ++i) {
    const kernels::Unary f = {static_cast<kernels::UnaryFunction>(i), 0.3f};
    if (!Agrees(set, true, [&](const KernelSet& s, Bytes y) { s.unary(x.data(), kCount, f, floats, y); })) {
      return "elementary function " + std::to_string(i);
    }
  }
  using Op = kernels::BinaryFunction;
  const kernels::BinaryOperand ra = {a.data(), nullptr, pa, 1, kCount}, rz = {nullptr, z.data(), {}, 1, kCount};
  for (int i = 0; i < kernels::kBinaryFunctions; ++i) {
    const Op op = static_cast<Op>(i);
    if (!Agrees(set, true, [&](const KernelSet& s, Bytes y) { s.binary(op, ra, rz, 1, kCount, floats, y); })) {
      return "function of two operands " + std::to_string(i);
    }
  }
  if (!Agrees(set, true, [&](const KernelSet& s, Bytes y) { s.prelu(x.data(), as_floats(y), 1, kCount, z.data()); })) return "prelu";
  if (!Agrees(set, true, [&](const KernelSet& s, Bytes y) { s.affine(x.data(), as_floats(y), 1, kCount, z.data(), z.data()); })) {
    return "affine";
  }
  if (!Agrees(set, true, [&](const KernelSet& s, Bytes y) { s.clamp(x.data(), as_floats(y), kCount, -1, 2); })) return "clamp";
  std::vector<float> e(kCount);
  for (bool log : {false, true}) {
    if (!Agrees(set, true, [&](const KernelSet& s, Bytes y) { s.softmax(z.data(), kCount, log, floats, e.data(), y); })) return "softmax";
  }
  const kernels::NormalizeGroup group = {z.data(), 1, kCount, kCount, z.data(), z.data(), 1e-5f, true};
  if (!Agrees(set, true, [&](const KernelSet& s, Bytes y) { s.normalize(group, floats, y); })) return "normalization";
  if (!Agrees(set, false, [&](const KernelSet& s, Bytes y) { s.table(a.data(), y, kCount, table.data()); })) return "table";
  const uint8_t* const rows[] = {a.data(), b.data()};
  if (!Agrees(set, false, [&](const KernelSet& s, Bytes y) { s.max_u8({rows, 2, 0, 1, kCount, y}); })) return "max";
  if (!Agrees(set, false, [&](const KernelSet& s, Bytes y) { s.sum_u8(a.data(), 1, 3, reinterpret_cast<int32_t*>(y), kCount - 2); })) {
    return "sum";
  }
  std::vector<float> lanes(16 * kCount);
  if (!Agrees(set, true, [&](const KernelSet& s, Bytes y) {
        std::fill(lanes.begin(), lanes.end(), 0.0f);
        s.sum_lanes(z.data(), 1, 3, 15, lanes.data(), kCount - 2);
        for (size_t i = 0; i < kCount; ++i) as_floats(y)[i] = lanes[i] + lanes[15 * (kCount - 2) + i];
      })) {
    return "sum in lanes";
  }
  return "";
}

}  // namespace self_check

std::string FindWrongKernel(const kernels::KernelSet& set) {
  const FpEnvScope fp;
  const std::string wrong = self_check::FindWrongElementwise(set);
  return wrong.empty() ? self_check::FindWrongLayer(set) : wrong;
}

}  // namespace pqi
