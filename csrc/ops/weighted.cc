#include "ops/weighted.h"

#include <algorithm>
#include <cmath>

namespace pqi::ops {
namespace {

int64_t Step(const NodeView& view) { return static_cast<int64_t>(std::get<uint64_t>(view.node.attrs.at("step"))); }

int64_t Magnitude(int64_t v) { return v < 0 ? -v : v; }

// The weights under one scale are called a line: those of a channel, or of one of its groups. `reach` is the largest |q - z| of the
// input, -1 where the input is float.
Status ProveLines(const NodeView& view, Span<const float> scales, const char* scale_name, int64_t reach) {
  PQI_ASSIGN_OR_RETURN(const std::vector<int8_t> codes, Codes(view));
  const Span<const int32_t> base = Elements<int32_t>(view, "base");
  const size_t lines = scales.size(), k = codes.size() / lines;
  const size_t groups = lines / static_cast<size_t>(view.constant("weight")->shape[0]);
  const int64_t step = Step(view);
  for (size_t i = 0; i < lines; ++i) {
    const auto error = [&](const std::string& what) {
      const std::string group = groups > 1 ? ", group " + std::to_string(i % groups) : "";
      return NodeError(view, "channel " + std::to_string(i / groups) + group + ": " + what);
    };
    if (!std::isnormal(scales[i])) {
      return error(std::string(scale_name) + " is not a normal float32 (" + std::to_string(scales[i]) + ")");
    }
    const int64_t b = base.empty() ? 0 : base[i];
    int64_t sum = 0, largest = 0;  // k <= 2^40 and |code| <= 128: no overflow
    for (size_t j = 0; j < k; ++j) {
      const int64_t m = Magnitude(codes[i * k + j]);
      sum += m;
      largest = std::max(largest, m);
    }
    if (reach < 0) {
      const float bound = static_cast<float>(step * largest + Magnitude(b)) * std::fabs(scales[i]);
      if (!std::isfinite(bound)) return error("weights overflow float32");
      continue;
    }
    // Both terms fit: step * sum < 2^48, reach <= 255, |b| <= 2^31, k <= 2^40 is checked by division.
    const int64_t codes_bound = step * sum * reach;
    const bool base_fits = b == 0 || reach == 0 || static_cast<int64_t>(k) <= INT32_MAX / (Magnitude(b) * reach);
    const int64_t bound = base_fits ? codes_bound + Magnitude(b) * reach * static_cast<int64_t>(k) : INT64_MAX;
    if (bound > INT32_MAX) {
      return error("the accumulator could reach " + (base_fits ? std::to_string(bound) : "more than 2^31") + ", the limit is 2147483647");
    }
  }
  return {};
}

}  // namespace

Status CheckWeighted(const NodeView& view, size_t weight_rank, AttrReader* attrs) {
  PQI_RETURN_IF_ERROR(CheckArity(view, 1, 2));
  PQI_RETURN_IF_ERROR(CheckConstantKeys(view, {"weight"}, {"scale", "bias", "base"}));
  const int64_t step = attrs->Uint("step", 1, 2);
  ReadActivation(attrs);
  PQI_RETURN_IF_ERROR(attrs->Finish());

  const Constant& weight = *view.constant("weight");
  const bool coded = weight.type == ConstType::kCode;
  if (!coded && weight.type != ConstType::kF32) return NodeError(view, "constant 'weight' must be code or f32");
  const auto& shape = weight.shape;
  if (shape.size() != weight_rank || std::any_of(shape.begin(), shape.end(), [](int64_t d) { return d < 1; })) {
    return NodeError(view, "constant 'weight' must have " + std::to_string(weight_rank) + " dimensions, each at least 1");
  }
  if (coded != view.has_constant("scale")) return NodeError(view, "constant 'scale' goes with code weights, and only with them");
  if (!coded && (view.has_constant("base") || step != 1)) return NodeError(view, "float weights have no 'base', and 'step' 1");
  const bool grouped = coded && weight_rank == 2 && !IsInteger(view) && view.constant("scale")->shape.size() == 2;
  if (grouped) {
    PQI_RETURN_IF_ERROR(CheckGroupScales(view));
  } else {
    if (coded) PQI_RETURN_IF_ERROR(CheckConstant(view, "scale", ConstType::kF32, {shape[0]}));
    if (view.has_constant("base")) PQI_RETURN_IF_ERROR(CheckConstant(view, "base", ConstType::kI32, {shape[0]}));
  }
  if (view.has_constant("bias")) PQI_RETURN_IF_ERROR(CheckConstant(view, "bias", ConstType::kF32, {shape[0]}));

  if (IsInteger(view)) {
    if (!coded) return NodeError(view, "a u8 input needs code weights");
    return {};
  }
  PQI_RETURN_IF_ERROR(CheckDType(view, view.output(0), "the output of a layer with float input", DType::kF32));
  if (HasResidual(view)) PQI_RETURN_IF_ERROR(CheckDType(view, view.input(1), "the residual of a layer with float input", DType::kF32));
  return {};
}

Status CheckResidual(const NodeView& view, const std::vector<Shape>& inputs, const Shape& out) {
  if (!HasResidual(view)) return {};
  Shape merged;
  return MergeShapes(view, inputs[1], out, "residual and output", &merged);
}

Status CheckGroupScales(const NodeView& view) {
  const std::vector<int64_t>& weight = view.constant("weight")->shape;
  const std::vector<int64_t>& scale = view.constant("scale")->shape;
  if (scale.size() == 2) {
    const int64_t groups = scale[1];
    if (scale[0] != weight[0] || groups < 1 || weight[1] % groups != 0) {
      return NodeError(view, "constant 'scale' must have shape [" + std::to_string(weight[0]) + "] or [" + std::to_string(weight[0]) +
                                 ", G] where G divides " + std::to_string(weight[1]));
    }
    PQI_RETURN_IF_ERROR(CheckConstant(view, "scale", ConstType::kF32, scale));
  } else {
    PQI_RETURN_IF_ERROR(CheckConstant(view, "scale", ConstType::kF32, {weight[0]}));
  }
  return view.has_constant("base") ? CheckConstant(view, "base", ConstType::kI32, scale) : Status();
}

Status ProveWeighted(const NodeView& view) {
  if (view.constant("weight")->type != ConstType::kCode) return {};
  if (IsInteger(view)) {
    const Quant& q = QuantOf(view.graph, view.input(0));
    const std::vector<float> products = ScaleProducts(view);
    return ProveLines(view, products, "activation scale x weight scale", std::max(q.zero_point - q.qmin, q.qmax - q.zero_point));
  }
  return ProveLines(view, Elements<float>(view, "scale"), "weight scale", -1);
}

Status ProveGroups(const NodeView& view, int64_t reach) { return ProveLines(view, Elements<float>(view, "scale"), "weight scale", reach); }

Result<std::vector<int8_t>> Codes(const NodeView& view) {
  const Constant& weight = *view.constant("weight");
  std::vector<int8_t> codes(static_cast<size_t>(weight.element_count()));
  PQI_RETURN_IF_ERROR(UnpackCodes(weight, {codes.data(), codes.size()}));
  return codes;
}

std::vector<float> ScaleProducts(const NodeView& view) {
  const Span<const float> scale = Elements<float>(view, "scale");
  std::vector<float> m(scale.begin(), scale.end());
  const float s_a = QuantOf(view.graph, view.input(0)).scale;
  for (float& s : m) s = s_a * s;
  return m;
}

Result<std::vector<float>> FloatWeights(const NodeView& view) {
  const Constant& weight = *view.constant("weight");
  if (weight.type == ConstType::kF32) {
    const Span<const float> stored = ElementsOf<float>(weight);
    return std::vector<float>(stored.begin(), stored.end());
  }
  PQI_ASSIGN_OR_RETURN(const std::vector<int8_t> codes, Codes(view));
  const Span<const float> scale = Elements<float>(view, "scale");
  const Span<const int32_t> base = Elements<int32_t>(view, "base");
  const size_t k = codes.size() / scale.size();
  const int64_t step = Step(view);
  std::vector<float> out(codes.size());
  for (size_t i = 0; i < codes.size(); ++i) {
    const int64_t b = base.empty() ? 0 : base[i / k];
    out[i] = static_cast<float>(step * codes[i] + b) * scale[i / k];
  }
  return out;
}

}  // namespace pqi::ops
