// Layers, codes or floats, for graphs with branches.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "tests/runtime/model_builder.h"

namespace pqi::test {

using Ids = std::vector<int>;

// Layers of codes over images of kC channels, and concats of them.
class LayerMaker {
 public:
  static constexpr int64_t kC = 7;

  explicit LayerMaker(int bits = 8, const std::string& image = R"("N","H","W",7)") : bits_(bits) {
    quant_ = b.AddQuant(bits, 3, 0, (1 << bits) - 1, 0.05f);
    x = b.AddInput("x", image, quant_);
  }

  // A square kernel over `c` channels that keeps the image's size. Depthwise where groups = c = oc.
  int Conv(int from, int64_t c, int64_t oc, int64_t kernel, int quant, int64_t groups = 1, int residual = -1) {
    const size_t count = static_cast<size_t>(oc * kernel * kernel * c / groups);
    const ModelBuilder::Constants constants{{"weight", b.AddCodes({oc, kernel, kernel, c / groups}, bits_, bits_ == 8 ? "none" : "nibble",
                                                                  RandomCodes(&random_, count, bits_))},
                                            {"scale", b.AddFloats({oc}, RandomFloats(&random_, static_cast<size_t>(oc), 0.001f, 0.01f))},
                                            {"bias", b.AddFloats({oc}, RandomFloats(&random_, static_cast<size_t>(oc), -1, 1))}};
    return Add("conv2d", Inputs(from, residual), quant, constants, ConvAttributes(kernel, groups));
  }
  int Conv(int from, int64_t oc, int64_t kernel = 1) { return Conv(from, kC, oc, kernel, quant_); }

  int FloatConv(int from, int64_t c, int64_t oc, int64_t kernel, int64_t groups = 1, int residual = -1) {
    const size_t count = static_cast<size_t>(oc * kernel * kernel * c / groups);
    const ModelBuilder::Constants constants{
        {"weight", b.AddFloats({oc, kernel, kernel, c / groups}, RandomFloats(&random_, count, -1, 1))}};
    return Add("conv2d", Inputs(from, residual), -1, constants, ConvAttributes(kernel, groups));
  }

  int Linear(int from, int64_t outputs) {
    return Add("linear", {from}, quant_,
               {{"weight", b.AddCodes({outputs, kC}, 8, "none", RandomCodes(&random_, static_cast<size_t>(outputs * kC), 8))},
                {"scale", b.AddFloats({outputs}, RandomFloats(&random_, static_cast<size_t>(outputs), 0.001f, 0.01f))}},
               std::string(R"("step":1,)") + kNoActivation);
  }

  int Pool(int from) {
    return Add("max_pool2d", {from}, quant_, {}, R"("kernel":[3,3],"stride":[1,1],"padding":[1,1,1,1],"dilation":[1,1],"ceil_mode":0)");
  }

  int Concat(const Ids& from, int axis, int quant) { return Add("concat", from, quant, {}, R"("axis":)" + std::to_string(axis)); }
  int Concat(const Ids& from, int axis = 3) { return Concat(from, axis, quant_); }

  int quant() const { return quant_; }

  std::shared_ptr<const Model> Build(const Ids& outputs) {
    for (int id : outputs) b.AddOutput("y" + std::to_string(id), id);
    auto model = b.Build();
    EXPECT_TRUE(model.ok()) << model.status().message();
    return model.value();
  }

  ModelBuilder b;
  int x;

 private:
  static std::string ConvAttributes(int64_t kernel, int64_t groups) {
    const std::string pad = std::to_string(kernel / 2);
    return R"("stride":[1,1],"padding":[)" + pad + "," + pad + "," + pad + "," + pad + R"(],"dilation":[1,1],"groups":)" +
           std::to_string(groups) + R"(,"step":1,)" + kRelu;
  }
  static Ids Inputs(int from, int residual) { return residual < 0 ? Ids{from} : Ids{from, residual}; }
  int Add(const std::string& op, const Ids& inputs, int quant, const ModelBuilder::Constants& constants, const std::string& attrs) {
    return b.AddNode(op, inputs, quant, constants, attrs);
  }

  int bits_, quant_;
  std::mt19937 random_{5};
};

}  // namespace pqi::test
