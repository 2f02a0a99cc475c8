#include "runtime/self_check.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <random>
#include <vector>

#include "base/aligned.h"
#include "base/fpenv.h"
#include "kernels/reference/conv.h"
#include "kernels/sets.h"
#include "pack/conv.h"
#include "pack/linear_dynamic.h"

namespace pqi {
namespace {

using kernels::Affine;
using kernels::ConvShape;
using kernels::KernelSet;
using kernels::Output;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr size_t kCount = 37;  // elements of the elementwise cases: whole vectors of every ISA, and a tail

// Operands, the same on every machine: one in four is an extreme.
class Operands {
 public:
  template <typename T>
  std::vector<T> Integers(int64_t count, int lo, int hi) {
    std::vector<T> v(static_cast<size_t>(count));
    for (T& x : v) x = static_cast<T>(Next(4) == 0 ? (Next(2) == 0 ? lo : hi) : lo + Next(hi - lo + 1));
    return v;
  }
  std::vector<float> Floats(int64_t count, float scale) {
    std::vector<float> v(static_cast<size_t>(count));
    for (float& x : v) x = scale * static_cast<float>(Next(2001) - 1000) / 1000;
    return v;
  }

 private:
  int Next(int below) { return static_cast<int>(engine_() % static_cast<unsigned>(below)); }
  std::minstd_rand engine_{1};
};

// lo is -infinity, or 0 with zero point 0: then saturation and a minimum, for codes that end at 200, can stand for every clamp.
Output Codes(int32_t zero_point, float lo, bool saturates = false) {
  Output o;
  o.saturates = saturates;
  o.code_max = saturates ? 200 : 255;
  o.act_lo = lo;
  o.act_hi = kInfinity;
  o.inv_scale = 1 / 0.037f;
  o.v_lo = static_cast<float>(-zero_point);
  o.v_hi = static_cast<float>(o.code_max - zero_point);
  o.zero_point = zero_point;
  return o;
}

Output Floats() {
  Output o;
  o.act_lo = -kInfinity;
  o.act_hi = kInfinity;
  o.f32 = true;
  return o;
}

// Which NaN an operation gives is not specified.
bool Same(const std::vector<uint8_t>& a, const std::vector<uint8_t>& b, bool f32) {
  if (!f32 || a == b) return a == b;
  for (size_t i = 0; i < a.size(); i += sizeof(float)) {
    float x, y;
    std::memcpy(&x, &a[i], sizeof x);
    std::memcpy(&y, &b[i], sizeof y);
    if (std::memcmp(&x, &y, sizeof x) != 0 && !(std::isnan(x) && std::isnan(y))) return false;
  }
  return true;
}

// Runs a packed layer and the reference on the same operands.
class ConvCheck {
 public:
  explicit ConvCheck(const KernelSet& set) : set_(set) {}

  bool Codes(const ConvShape& s, const Output& output, bool base_and_residual) {
    const int64_t count = s.rows() * s.oc;
    const auto x = operands_.Integers<uint8_t>(s.n * s.h * s.w * s.c, 0, 255);
    const auto codes = operands_.Integers<int8_t>(s.oc * s.taps() * s.group_inputs(), -128, 127);
    const auto scale = operands_.Floats(s.oc, 1e-3f), bias = operands_.Floats(s.oc, 2);
    const auto base = operands_.Integers<int32_t>(s.oc, -20, 20);
    const auto residual = operands_.Integers<uint8_t>(count, 0, 255);
    kernels::reference::ConvU8 conv = {
        s, x.data(), 77, codes.data(), 1, nullptr, scale.data(), bias.data(), {}, output, nullptr, static_cast<size_t>(s.oc)};
    if (base_and_residual) {
      conv.base = base.data();
      conv.residual.u8 = residual.data();
      conv.residual.stride = static_cast<size_t>(s.oc);
    }
    const size_t bytes = static_cast<size_t>(count) * (output.f32 ? sizeof(float) : 1);
    std::vector<uint8_t> want(bytes), got(bytes);
    conv.y = want.data();
    kernels::reference::Conv2dU8(conv, 0, s.rows());
    const pack::PackedConvU8 packed(set_, s, {codes.data(), 1, scale.data(), bias.data(), conv.base, conv.zero_point});
    Run(packed, pack::ConvRun<uint8_t>{s, x.data(), conv.residual, output, got.data(), conv.y_stride});
    return Same(got, want, output.f32);
  }

  bool Floats(const ConvShape& s) {
    const auto x = operands_.Floats(s.n * s.h * s.w * s.c, 3), bias = operands_.Floats(s.oc, 2);
    const auto weights = operands_.Floats(s.oc * s.taps() * s.group_inputs(), 2);
    const size_t bytes = static_cast<size_t>(s.rows() * s.oc) * sizeof(float);
    std::vector<uint8_t> want(bytes), got(bytes);
    const Output output = pqi::Floats();
    const size_t stride = static_cast<size_t>(s.oc);
    kernels::reference::Conv2dF32(
        {s, x.data(), weights.data(), bias.data(), {}, output.act_lo, output.act_hi, reinterpret_cast<float*>(want.data()), stride}, 0,
        s.rows());
    const pack::PackedConvF32 packed(set_, s, {weights.data(), bias.data()});
    Run(packed, pack::ConvRun<float>{s, x.data(), {}, output, got.data(), stride});
    return Same(got, want, true);
  }

 private:
  template <typename T, typename Packed>
  void Run(const Packed& packed, const pack::ConvRun<T>& run) {
    AlignedBuffer<uint8_t> scratch(packed.ScratchBytes(run.shape));
    packed.Run(run, {0, pack::OutputUnits(packed.layout(), run.shape), 0, packed.layout().panels}, scratch.data());
  }

  const KernelSet& set_;
  Operands operands_;
};

ConvShape Linear(int64_t rows, int64_t inputs, int64_t outputs, int64_t groups = 1) {
  ConvShape s;
  s.groups = groups;
  s.n = rows;
  s.c = inputs;
  s.oc = outputs;
  return s;
}

ConvShape Square(int64_t size, int64_t channels, int64_t outputs, int64_t groups, int64_t stride) {
  ConvShape s;
  s.h = s.w = size;
  s.c = channels;
  s.oc = outputs;
  s.groups = groups;
  s.kh = s.kw = 3;
  s.stride_h = s.stride_w = stride;
  s.pad_top = s.pad_left = s.pad_bottom = s.pad_right = 1;
  return s;
}

std::string FindWrongConv(const KernelSet& set) {
  ConvCheck check(set);
  // Matrix registers take layers of one group; tiles are still there for all others.
  const int64_t groups = set.u8s8_matrix != nullptr ? 2 : 1;
  for (int m = 1; m <= set.u8s8.mr; ++m) {                 // a whole panel and a narrow one
    if (groups > 1 && m > 3 && m < set.u8s8.mr) continue;  // one loop nest for all of these
    if (!check.Codes(Linear(m, 21 * groups, (set.u8s8.nr + 3) * groups, groups), Codes(m % 2 * 9, m % 2 == 0 ? 0 : -kInfinity, m % 4 < 2),
                     m % 3 == 0)) {
      return "u8s8 tile of " + std::to_string(m) + " rows";
    }
  }
  for (int m = 1; m <= set.f32.mr; ++m) {
    if (!check.Floats(Linear(m, 7, set.f32.nr + 3))) return "f32 tile of " + std::to_string(m) + " rows";
  }
  if (!check.Codes(Square(2, 80 * groups, 5 * groups, groups, 1), Floats(), false)) return "u8s8 tile under a 3x3 window";
  if (set.u8s8_matrix != nullptr) {  // one row, two runs and a piece, and images with borders
    const bool rows =
        check.Codes(Linear(1, 70, 35), Codes(9, -kInfinity), false) && check.Codes(Linear(37, 12, 35), Codes(0, 0, true), false);
    if (!rows || !check.Codes(Square(6, 24, 20, 1, 1), Codes(0, 0, true), false) ||
        !check.Codes(Square(6, 24, 20, 1, 2), Floats(), false)) {
      return "u8s8 matrix";
    }
  }
  if (!check.Codes(Square(3, kCount, kCount, kCount, 1), Codes(3, 0), true)) return "u8s8 depthwise";
  for (int64_t stride : {1, 2}) {
    ConvShape s = Square(5, kCount, kCount, kCount, stride);
    if (!check.Codes(s, Codes(3, -kInfinity, stride == 2), false)) return "u8s8 depthwise columns";
    s.kh = s.kw = 5;
    if (!check.Codes(s, Codes(0, 0, stride == 1), false)) return "u8s8 depthwise columns";
  }
  if (!check.Floats(Square(3, kCount, kCount, kCount, 1))) return "f32 depthwise";
  return "";
}

// Linear layers over packed codes: the first rows of one result of the reference for every number of rows.
class PackedLinearCheck {
 public:
  PackedLinearCheck(const KernelSet& set, int64_t rows, int64_t groups, int bits)
      : inputs_(kGroup * groups),
        outputs_(set.narrow.nr + 3),
        codes_(operands_.Integers<int8_t>(inputs_ * outputs_, -(1 << (bits - 1)), (1 << (bits - 1)) - 1)),
        scale_(operands_.Floats(outputs_ * groups, 1)),
        x_(operands_.Floats(rows * inputs_, 3)),
        layer_{inputs_, outputs_, groups, codes_.data(), 1, scale_.data(), nullptr, nullptr} {
    for (float& s : scale_) s = s == 0 ? 1 : s;
    packed_.emplace(set, layer_, kQuantizer);
    want_ = Run(pack::PackedLinearDynamic(kernels::kReferenceKernels, layer_, kQuantizer), rows);
  }

  bool Agrees(int64_t rows) {
    std::vector<uint8_t> want(want_.begin(), want_.begin() + rows * outputs_ * static_cast<int64_t>(sizeof(float)));
    return Same(Run(*packed_, rows), want, true);
  }

 private:
  static constexpr int64_t kGroup = 32;
  static constexpr kernels::RowQuantizer kQuantizer = {false, 0, 255, 1e-6f};

  std::vector<uint8_t> Run(const pack::PackedLinearDynamic& packed, int64_t rows) {
    std::vector<uint8_t> y(static_cast<size_t>(rows * outputs_) * sizeof(float));
    AlignedBuffer<uint8_t> scratch(packed.ScratchBytes());
    pack::DynamicRun run;
    run.x = x_.data();
    run.output = Floats();
    run.y = y.data();
    packed.Run(run, {0, rows, 0, packed.panels()}, scratch.data());
    return y;
  }

  Operands operands_;
  int64_t inputs_, outputs_;
  std::vector<int8_t> codes_;
  std::vector<float> scale_, x_;
  kernels::reference::DynamicLinear layer_;
  std::optional<pack::PackedLinearDynamic> packed_;
  std::vector<uint8_t> want_;
};

std::string FindWrongPackedLinear(const KernelSet& set) {
  if (set.narrow.nr == 0) return "";
  for (int bits : {2, 4}) {
    const int64_t many = 2 * set.narrow.mr + 1;
    PackedLinearCheck check(set, many, 2, bits);
    for (int64_t m = 1; m <= set.narrow.mr; ++m) {
      if (!check.Agrees(m)) return "tile of " + std::to_string(m) + " rows over packed codes";
    }
    if (!check.Agrees(many)) return "tile over unpacked codes";
    if (!PackedLinearCheck(set, 1, 1, bits).Agrees(1)) return "tile over one group of packed codes";
  }
  return "";
}

// One elementwise kernel: fn(set, y) of this set and of the reference.
template <typename Fn>
bool Agrees(const KernelSet& set, bool f32, Fn&& fn) {
  std::vector<uint8_t> want(kCount * sizeof(float)), got(kCount * sizeof(float));
  fn(kernels::kReferenceKernels, want.data());
  fn(set, got.data());
  return Same(got, want, f32);
}

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
  if (!Agrees(set, false, [&](const KernelSet& s, Bytes y) { s.max_u8(rows, 2, y, kCount); })) return "max";
  if (!Agrees(set, false, [&](const KernelSet& s, Bytes y) { s.sum_u8(a.data(), reinterpret_cast<int32_t*>(y), kCount); })) return "sum";
  return "";
}

}  // namespace

std::string FindWrongKernel(const KernelSet& set) {
  const FpEnvScope fp;
  const std::string wrong = FindWrongElementwise(set);
  if (!wrong.empty()) return wrong;
  const std::string conv = FindWrongConv(set);
  return conv.empty() ? FindWrongPackedLinear(set) : conv;
}

}  // namespace pqi
