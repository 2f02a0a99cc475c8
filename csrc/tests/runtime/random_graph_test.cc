// Random small graphs of the ops that convolutional networks have: all instruction sets, thread counts and memory plans give the bits of
// the reference. Random networks of all other ops are drawn in tests/random_graphs.
#include <gtest/gtest.h>

#include <array>

#include "runtime/machine.h"
#include "tests/runtime/model_builder.h"
#include "tests/twins/twins.h"

namespace pqi::test {
namespace {

// A value of the graph under construction, an NHWC image.
struct Image {
  int id;
  int quant;  // -1 for float
  std::array<int64_t, 3> hwc;
};

class GraphMaker {
 public:
  explicit GraphMaker(unsigned seed) : random_(seed) {}

  Result<std::shared_ptr<const Model>> Make(ConcreteShape* input) {
    const int64_t h = Pick(5, 11), w = Pick(5, 11), c = Pick(1, 6);
    *input = {2, c, h, w};
    const int x = b_.AddInput("x", "\"N\"," + std::to_string(c) + ",\"H\",\"W\"");
    Image image{b_.AddNode("quantize", {x}, NewQuant(), {}, R"("layout":"to_nhwc")"), last_quant_, {h, w, c}};
    for (int64_t left = Pick(3, 7); left > 0; --left) image = Next(image);
    const bool flat = Pick(0, 1);
    const int mean =
        b_.AddNode("mean", {image.id}, image.quant < 0 || Pick(0, 1) ? -1 : NewQuant(), {}, R"("keepdim":)" + std::to_string(!flat));
    b_.AddOutput("mean", mean);
    b_.AddOutput("last", Float(image).id);
    return b_.Build();
  }

 private:
  int64_t Pick(int64_t lo, int64_t hi) { return std::uniform_int_distribution<int64_t>(lo, hi)(random_); }
  float Real(float lo, float hi) { return std::uniform_real_distribution<float>(lo, hi)(random_); }

  int NewQuant() {
    const int bits = static_cast<int>(Pick(2, 8)), top = (1 << bits) - 1;
    const int qmin = static_cast<int>(Pick(0, 1)), qmax = top - static_cast<int>(Pick(0, 1));
    last_quant_ = b_.AddQuant(bits, static_cast<int>(Pick(qmin, qmax)), qmin, qmax, Real(0.01f, 0.3f));
    return last_quant_;
  }

  std::string Activation() {
    switch (Pick(0, 2)) {
      case 0:
        return kNoActivation;
      case 1:
        return kRelu;
      default:
        return R"("activation":"clamp","lo":3212836864,"hi":1086324736)";  // the bit patterns of -1 and 6
    }
  }

  Image Float(const Image& in) {
    if (in.quant < 0) return in;
    return {b_.AddNode("dequantize", {in.id}, -1, {}, R"("layout":"same")"), -1, in.hwc};
  }

  Image Next(const Image& in) {
    switch (Pick(0, 12)) {
      case 0:
      case 1:
      case 2:
        return Conv(in);
      case 3:
        return Add(in);
      case 4:
        return MaxPool(in);
      case 5:
        return AvgPool(in);
      case 6:
        return in.quant < 0 ? Affine(in) : Table(in);
      case 7:
        return Shuffle(in);
      case 8:
        return Concat(in);
      case 9:
        return Crop(in);
      case 10:
        return Enlarge(in);
      case 11:
        return Branches(in);
      default:
        return in.quant < 0 ? (Pick(0, 1) ? Requantize(in) : Unary(in)) : Float(in);
    }
  }

  Image Unary(const Image& in) {
    const char* const functions[] = {"sigmoid", "tanh", "silu", "gelu", "gelu_tanh", "hardswish", "hardsigmoid", "erf"};
    const int quant = Pick(0, 1) ? NewQuant() : -1;
    return {b_.AddNode("unary", {in.id}, quant, {}, std::string(R"("alpha":0,"function":")") + functions[Pick(0, 7)] + "\""), quant,
            in.hwc};
  }

  Image Requantize(const Image& in) { return {b_.AddNode("quantize", {in.id}, NewQuant(), {}, R"("layout":"same")"), last_quant_, in.hwc}; }

  Image Conv(const Image& in) {
    const int64_t kind = Pick(0, 3), c = in.hwc[2];
    const int64_t groups = kind == 3 ? c : (kind == 2 && c % 2 == 0 ? 2 : 1);
    const int64_t oc = kind == 3 ? c : groups * Pick(1, kind == 0 ? 40 : 9);
    const int64_t kh = Pick(1, 3), kw = Pick(1, 3), dilation = Pick(1, 2);
    const int64_t stride = Pick(1, 2), top = Pick(0, 2), left = Pick(0, 2);
    const int64_t oh = (in.hwc[0] + top + 1 - dilation * (kh - 1) - 1) / stride + 1;
    const int64_t ow = (in.hwc[1] + left + 1 - dilation * (kw - 1) - 1) / stride + 1;
    if (in.hwc[0] + top + 1 <= dilation * (kh - 1) || in.hwc[1] + left + 1 <= dilation * (kw - 1)) return in;
    const size_t count = static_cast<size_t>(oc * kh * kw * c / groups);
    const int bits = static_cast<int>(Pick(2, 8));
    const char* packing = bits == 8 ? "none" : (bits == 4 ? "nibble" : (bits == 2 ? (random_() % 2 ? "trit5" : "trit_rans") : "dense"));
    ModelBuilder::Constants constants;
    const std::vector<int64_t> shape{oc, kh, kw, c / groups};
    int64_t step = 1;
    if (in.quant < 0 && Pick(0, 1)) {
      constants.emplace_back("weight", b_.AddFloats(shape, RandomFloats(&random_, count, -1, 1)));
    } else {
      constants.emplace_back("weight", b_.AddCodes(shape, bits, packing, RandomCodes(&random_, count, bits)));
      constants.emplace_back("scale", b_.AddFloats({oc}, RandomFloats(&random_, static_cast<size_t>(oc), -0.05f, 0.05f)));
      step = Pick(1, 2);
      if (Pick(0, 1)) {
        std::vector<int32_t> base(static_cast<size_t>(oc));
        for (int32_t& v : base) v = static_cast<int32_t>(Pick(-9, 9));
        constants.emplace_back("base", b_.AddInts({oc}, base));
      }
    }
    if (Pick(0, 1)) constants.emplace_back("bias", b_.AddFloats({oc}, RandomFloats(&random_, static_cast<size_t>(oc), -1, 1)));
    const bool codes_out = in.quant >= 0 && Pick(0, 3) > 0;
    std::vector<int> inputs{in.id};
    if (oc == c && oh == in.hwc[0] && ow == in.hwc[1] && Pick(0, 1)) inputs.push_back(in.id);  // a residual
    const std::string two = std::to_string(stride), d = std::to_string(dilation);
    const std::string attrs = R"("stride":[)" + two + "," + two + R"(],"padding":[)" + std::to_string(top) + "," + std::to_string(left) +
                              R"(,1,1],"dilation":[)" + d + "," + d + R"(],"groups":)" + std::to_string(groups) + R"(,"step":)" +
                              std::to_string(step) + "," + Activation();
    const int quant = codes_out ? NewQuant() : -1;
    return {b_.AddNode("conv2d", inputs, quant, constants, attrs), quant, {oh, ow, oc}};
  }

  Image Add(const Image& in) {
    const Image other = Pick(0, 1) ? in : Float(in);
    const int quant = Pick(0, 1) ? NewQuant() : -1;
    return {b_.AddNode("add", {in.id, other.id}, quant, {}, Activation()), quant, in.hwc};
  }

  Image MaxPool(const Image& in) {
    if (in.hwc[0] < 3 || in.hwc[1] < 3) return in;
    const int64_t oh = (in.hwc[0] - 1) / 2 + 1, ow = (in.hwc[1] - 1) / 2 + 1;  // 3x3, stride 2, padding 1
    return {b_.AddNode("max_pool2d", {in.id}, in.quant, {},
                       R"("kernel":[3,3],"stride":[2,2],"padding":[1,1,1,1],"dilation":[1,1],"ceil_mode":0)"),
            in.quant,
            {oh, ow, in.hwc[2]}};
  }

  Image AvgPool(const Image& in) {
    const int quant = in.quant >= 0 && Pick(0, 1) ? NewQuant() : -1;
    if (Pick(0, 1)) return {b_.AddNode("adaptive_avg_pool2d", {in.id}, quant, {}, R"("output":[4,3])"), quant, {4, 3, in.hwc[2]}};
    const std::string attrs =
        R"("kernel":[2,2],"stride":[1,1],"padding":[1,1,0,0],"ceil_mode":0,"count_include_pad":)" + std::to_string(Pick(0, 1));
    return {b_.AddNode("avg_pool2d", {in.id}, quant, {}, attrs), quant, in.hwc};
  }

  Image Affine(const Image& in) {
    const size_t c = static_cast<size_t>(in.hwc[2]);
    const int scale = b_.AddFloats({in.hwc[2]}, RandomFloats(&random_, c, -2, 2)),
              shift = b_.AddFloats({in.hwc[2]}, RandomFloats(&random_, c, -1, 1));
    const int affine = b_.AddNode("affine", {in.id}, -1, {{"scale", scale}, {"shift", shift}}, "");
    return {b_.AddNode("clamp", {affine}, -1, {}, R"("lo":3212836864,"hi":1086324736)"), -1, in.hwc};
  }

  Image Table(const Image& in) {
    const int quant = b_.AddQuant(8, 128, 0, 255, 0.05f);
    std::vector<uint8_t> table(256);
    for (uint8_t& entry : table) entry = static_cast<uint8_t>(Pick(0, 255));
    return {b_.AddNode("table", {in.id}, quant, {{"table", b_.AddBytes({256}, table)}}, ""), quant, in.hwc};
  }

  // Two data movements that undo each other on the channels.
  Image Shuffle(const Image& in) {
    const int t = b_.AddNode("transpose", {in.id}, in.quant, {}, R"("perm":[0,2,1,3])");
    return {b_.AddNode("transpose", {t}, in.quant, {}, R"("perm":[0,1,2,3])"), in.quant, {in.hwc[1], in.hwc[0], in.hwc[2]}};
  }

  // Layers over the same image whose outputs are joined, pixel by pixel; the first is perhaps itself joined.
  Image Branches(const Image& in) {
    const int quant = in.quant < 0 ? -1 : NewQuant();
    Image out = in;
    out.quant = quant;
    out.hwc[2] = 0;
    for (int64_t left = Pick(2, 4); left > 0; --left) {
      const int64_t oc = Pick(1, 20), k = 2 * Pick(0, 1) + 1;
      const std::vector<int64_t> shape{oc, k, k, in.hwc[2]};
      const size_t count = static_cast<size_t>(oc * k * k * in.hwc[2]);
      ModelBuilder::Constants constants;
      if (quant < 0) {
        constants = {{"weight", b_.AddFloats(shape, RandomFloats(&random_, count, -1, 1))}};
      } else {
        constants = {{"weight", b_.AddCodes(shape, 4, "nibble", RandomCodes(&random_, count, 4))},
                     {"scale", b_.AddFloats({oc}, RandomFloats(&random_, static_cast<size_t>(oc), -0.05f, 0.05f))}};
      }
      const std::string pad = std::to_string(k / 2), attrs = R"("stride":[1,1],"padding":[)" + pad + "," + pad + "," + pad + "," + pad +
                                                             R"(],"dilation":[1,1],"groups":1,"step":1,)" + Activation();
      const int conv = b_.AddNode("conv2d", {in.id}, quant, constants, attrs);
      out.id = out.hwc[2] == 0 ? conv
                               : b_.AddNode("concat", Pick(0, 1) ? std::vector<int>{out.id, conv} : std::vector<int>{conv, out.id}, quant,
                                            {}, R"("axis":3)");
      out.hwc[2] += oc;
    }
    return out;
  }

  // The image behind itself, the second time perhaps of other parameters, along any axis but the batch.
  Image Concat(const Image& in) {
    const Image other = in.quant >= 0 && Pick(0, 1) ? Table(in) : in;
    const size_t axis = static_cast<size_t>(Pick(1, 3));
    const int quant = in.quant < 0 || Pick(0, 1) ? in.quant : NewQuant();
    Image out = in;
    out.hwc[axis - 1] *= 2;
    out.quant = quant;
    if (out.hwc[axis - 1] > 48) return in;
    out.id = b_.AddNode("concat", {in.id, other.id}, quant, {}, R"("axis":)" + std::to_string(axis));
    return out;
  }

  // A slice along one axis, then a border around it.
  Image Crop(const Image& in) {
    const size_t axis = static_cast<size_t>(Pick(1, 3));
    const int64_t length = in.hwc[axis - 1], start = Pick(0, length - 1), step = Pick(1, 2);
    Image out = in;
    out.id = b_.AddNode("slice", {in.id}, in.quant, {},
                        R"("axis":)" + std::to_string(axis) + R"(,"start":)" + std::to_string(start) + R"(,"end":2147483647,"step":)" +
                            std::to_string(step));
    out.hwc[axis - 1] = (length - start - 1) / step + 1;
    const char* const modes[] = {"constant", "replicate", "reflect"};
    const int64_t mode = Pick(0, out.hwc[0] > 2 && out.hwc[1] > 1 ? 2 : 1);
    out.id = b_.AddNode(
        "pad", {out.id}, in.quant, {},
        std::string(R"("mode":")") + modes[mode] + R"(","before":[0,2,1,0],"after":[0,1,0,0],"value":)" + (mode == 0 ? "1" : "0"));
    out.hwc = {out.hwc[0] + 3, out.hwc[1] + 1, out.hwc[2]};
    return out;
  }

  Image Enlarge(const Image& in) {
    if (in.hwc[0] * in.hwc[1] > 400) return in;
    if (in.hwc[2] % 4 == 0) {
      const std::string order = Pick(0, 1) ? "pixels" : "channels";
      return {b_.AddNode("pixel_shuffle", {in.id}, in.quant, {}, R"("factor":[2,2],"crop":[1,0,0,1],"order":")" + order + "\""),
              in.quant,
              {in.hwc[0] * 2 - 1, in.hwc[1] * 2 - 1, in.hwc[2] / 4}};
    }
    const bool bilinear = Pick(0, 1);
    const int quant = !bilinear ? in.quant : Pick(0, 1) ? NewQuant() : -1;
    const std::string attrs = std::string(R"("mode":")") + (bilinear ? "bilinear" : "nearest") + R"(","align_corners":)" +
                              std::to_string(bilinear && Pick(0, 1)) + R"(,"size":[0,9],"factor":[2,0],"step":[0,0])";
    return {b_.AddNode("upsample", {in.id}, quant, {}, attrs), quant, {in.hwc[0] * 2, 9, in.hwc[2]}};
  }

  std::mt19937 random_;
  ModelBuilder b_;
  int last_quant_ = -1;
};

class RandomGraph : public testing::TestWithParam<unsigned> {};

TEST_P(RandomGraph, GivesTheReferencesBitsEverywhere) {
  ConcreteShape shape;
  const auto model = GraphMaker(GetParam()).Make(&shape);
  ASSERT_TRUE(model.ok()) << model.status().message();
  std::mt19937 random(GetParam());
  const std::vector<float> x = RandomFloats(&random, static_cast<size_t>(shape[0] * shape[1] * shape[2] * shape[3]), -8, 8);
  const std::vector<const void*> inputs{x.data()};

  const auto reference = MakeSession(model.value(), 1, "reference", ArenaReuse::kNoReuse);
  const RunOutcome expected = RunModel(reference.get(), {shape}, inputs, true);
  for (const TestedSet& set : RunnableSets()) {
    for (int threads : {1, 2, 3, 4}) {
      const auto session = MakeSession(model.value(), threads, *set.set);
      const RunOutcome plain = RunModel(session.get(), {shape}, inputs);
      ASSERT_EQ(plain.outputs, expected.outputs) << set.name << " " << threads;
      const RunOutcome captured = RunModel(session.get(), {shape}, inputs, true);
      for (size_t n = 0; n < expected.captured.size(); ++n) {
        ASSERT_EQ(captured.captured[n], expected.captured[n])
            << set.name << " " << threads << " node " << n << " " << model.value()->graph().nodes[n].op;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, RandomGraph, testing::Range(0u, 100u));

}  // namespace
}  // namespace pqi::test
