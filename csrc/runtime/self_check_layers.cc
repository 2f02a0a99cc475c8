// Convolutions and linear layers of the self check, by packed layers of one tile or a few.
#include <optional>

#include "base/aligned.h"
#include "conv/packed_conv.h"
#include "kernels/reference/conv.h"
#include "kernels/sets.h"
#include "linear/dynamic.h"
#include "runtime/self_check_cases.h"

namespace pqi::self_check {
namespace {

using kernels::ConvShape;
using kernels::KernelSet;

// Activation codes lie in [0, qmax], weight codes in [least, largest].
struct Ranges {
  int qmax = 255, least = -128, largest = 127;
};

// Runs a packed layer and the reference on the same operands.
class ConvCheck {
 public:
  explicit ConvCheck(const KernelSet& set) : set_(set) {}

  bool Codes(const ConvShape& s, const Output& output, bool base_and_residual, const conv::Algorithm& algorithm = {},
             const Ranges& ranges = {}) {
    const int64_t count = s.rows() * s.oc;
    const auto x = operands_.Integers<uint8_t>(s.n * s.h * s.w * s.c, 0, ranges.qmax);
    const auto codes = operands_.Integers<int8_t>(s.oc * s.taps() * s.group_inputs(), ranges.least, ranges.largest);
    const auto scale = operands_.Floats(s.oc, 1e-3f), bias = operands_.Floats(s.oc, 2);
    const auto base = operands_.Integers<int32_t>(s.oc, -20, 20);
    const auto residual = operands_.Integers<uint8_t>(count, 0, 255);
    kernels::reference::ConvU8 conv = {s,      x.data(), ranges.qmax / 3,          codes.data(), 1, nullptr, scale.data(), bias.data(), {},
                                       output, nullptr,  static_cast<size_t>(s.oc)};
    if (base_and_residual) {
      conv.base = base.data();
      conv.residual.u8 = residual.data();
      conv.residual.stride = static_cast<size_t>(s.oc);
    }
    const size_t bytes = static_cast<size_t>(count) * (output.f32 ? sizeof(float) : 1);
    std::vector<uint8_t> want(bytes), got(bytes);
    conv.y = want.data();
    kernels::reference::Conv2dU8(conv, 0, s.rows());
    const conv::PackedConvU8 packed(set_, s, {codes.data(), 1, scale.data(), bias.data(), conv.base, conv.zero_point, 0, ranges.qmax},
                                    algorithm);
    Run(packed, conv::ConvRun<uint8_t>{s, x.data(), conv.residual, output, got.data(), conv.y_stride});
    return Same(got, want, output.f32);
  }

  bool Floats(const ConvShape& s) {
    const auto x = operands_.Floats(s.n * s.h * s.w * s.c, 3), bias = operands_.Floats(s.oc, 2);
    const auto weights = operands_.Floats(s.oc * s.taps() * s.group_inputs(), 2);
    const size_t bytes = static_cast<size_t>(s.rows() * s.oc) * sizeof(float);
    std::vector<uint8_t> want(bytes), got(bytes);
    const Output output = self_check::Floats();
    const size_t stride = static_cast<size_t>(s.oc);
    kernels::reference::Conv2dF32(
        {s, x.data(), weights.data(), bias.data(), {}, output.act_lo, output.act_hi, reinterpret_cast<float*>(want.data()), stride}, 0,
        s.rows());
    const conv::PackedConvF32 packed(set_, s, {weights.data(), bias.data()});
    Run(packed, conv::ConvRun<float>{s, x.data(), {}, output, got.data(), stride});
    return Same(got, want, true);
  }

 private:
  template <typename T, typename Packed>
  void Run(const Packed& packed, const conv::ConvRun<T>& run) {
    AlignedBuffer<uint8_t> scratch(packed.ScratchBytes(run.shape));
    packed.Run(run, {0, packed.OutputWork(run.shape).rows, 0, packed.layout().panels}, scratch.data());
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
  // Matrix registers take most layers; tiles are still there for the others.
  const bool matrix = set.u8s8_matrix != nullptr;
  conv::Algorithm tiles, lines;
  tiles.method = matrix ? &conv::kTilesMethod : nullptr;
  lines.method = matrix ? &conv::kLinesMethod : nullptr;
  for (int m = 1; m <= set.u8s8.mr; ++m) {             // a whole panel and a narrow one
    if (matrix && m > 3 && m < set.u8s8.mr) continue;  // a set with matrix registers has one loop nest for all of these
    if (!check.Codes(Linear(m, 21, set.u8s8.nr + 3), Codes(m % 2 * 9, m % 2 == 0 ? 0 : -kInfinity, m % 4 < 2), m % 3 == 0, tiles)) {
      return "u8s8 tile of " + std::to_string(m) + " rows";
    }
  }
  for (int m = 1; m <= set.f32.mr; ++m) {
    if (!check.Floats(Linear(m, 7, set.f32.nr + 3))) return "f32 tile of " + std::to_string(m) + " rows";
  }
  if (!check.Codes(Square(2, 80, 5, 1, 1), Floats(), false, tiles)) return "u8s8 tile under a 3x3 window";
  if (!check.Codes(Square(5, 3, 5, 1, 2), Codes(4, 0), true, lines)) return "u8s8 tile over padded lines";
  if (!check.Floats(Square(5, 3, 5, 1, 2))) return "f32 tile over padded lines";
  if (set.u8s8_matrix != nullptr) {  // one row, two runs and a piece, and images with borders
    const bool rows =
        check.Codes(Linear(1, 70, 35), Codes(9, -kInfinity), false) && check.Codes(Linear(37, 12, 35), Codes(0, 0, true), false);
    if (!rows || !check.Codes(Square(6, 24, 20, 1, 1), Codes(0, 0, true), false) ||
        !check.Codes(Square(6, 24, 20, 1, 2), Floats(), false) || !check.Codes(Square(6, 24, 72, 2, 1), Codes(3, 0), false)) {
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

// Every way to multiply codes of few bits, with the largest activations and codes for which it is exact.
std::string FindWrongLowBit(const KernelSet& set) {
  struct Way {
    const char* name;
    bool present;
    conv::Algorithm algorithm;
    Ranges ranges;
  };
  using conv::Product;
  const Way ways[] = {
      {"Winograd in one dimension", set.winograd_1d.input != nullptr, {nullptr, &conv::kWinograd1d, Product::kDot, 0}, {127, -42, 42}},
      {"Winograd of four outputs", set.winograd_1d4.input != nullptr, {nullptr, &conv::kWinograd1d4, Product::kDot, 0}, {25, -18, 18}},
      {"Winograd of 4x4 outputs", set.winograd_4x4.input != nullptr, {nullptr, &conv::kWinograd4x4, Product::kDot, 0}, {15, -7, 7}},
      {"Winograd", set.winograd_2d.input != nullptr, {nullptr, &conv::kWinograd2d, Product::kDot, 0}, {63, -14, 14}},
      {"inner products", set.u8s8_inner_product.shape.mr > 0, {nullptr, nullptr, Product::kInnerProduct, 0}, {240, -8, 7}},
      {"deferred sums", set.u8s8_deferred.shape.mr > 0, {nullptr, nullptr, Product::kDeferred, 8}, {255, -8, 7}},
      {"sparse sums of bytes", set.sparse_positions > 0, {&conv::kSparseMethod, nullptr, Product::kDot, 0}, {15, -1, 1}},
      {"sparse sums of 16 bits", set.sparse_positions > 0, {&conv::kSparseMethod, nullptr, Product::kDot, 0}, {255, -1, 1}}};
  ConvCheck check(set);
  for (const Way& way : ways) {
    if (!way.present) continue;
    const ConvShape whole = Square(3, 8, set.u8s8.nr + 3, 1, 1), narrow = Square(4, 24, 5, 1, 1);
    if (!check.Codes(whole, Codes(0, 0, true), false, way.algorithm, way.ranges) ||
        !check.Codes(narrow, Floats(), false, way.algorithm, way.ranges)) {
      return way.name;
    }
  }
  return "";
}

// Linear layers over packed codes. The reference runs once; each number of rows is compared with as many of its first rows.
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
    want_ = Run(linear::PackedLinearDynamic(kernels::kReferenceKernels, layer_, kQuantizer), rows);
  }

  bool Agrees(int64_t rows) {
    std::vector<uint8_t> want(want_.begin(), want_.begin() + rows * outputs_ * static_cast<int64_t>(sizeof(float)));
    return Same(Run(*packed_, rows), want, true);
  }

 private:
  static constexpr int64_t kGroup = 32;
  static constexpr kernels::RowQuantizer kQuantizer = {false, 0, 255, 1e-6f};

  std::vector<uint8_t> Run(const linear::PackedLinearDynamic& packed, int64_t rows) {
    std::vector<uint8_t> y(static_cast<size_t>(rows * outputs_) * sizeof(float));
    AlignedBuffer<uint8_t> scratch(packed.ScratchBytes());
    linear::DynamicRun run;
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
  std::optional<linear::PackedLinearDynamic> packed_;
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

}  // namespace

std::string FindWrongLayer(const KernelSet& set) {
  for (const auto find : {FindWrongConv, FindWrongLowBit, FindWrongPackedLinear}) {
    const std::string wrong = find(set);
    if (!wrong.empty()) return wrong;
  }
  return "";
}

}  // namespace pqi::self_check
