// The model of the interface tests: x f32 [N, 4] -> y f32 [N, 3] and, if asked for, codes u8 [N, 4].
#pragma once

#include "tests/runtime/model_builder.h"

namespace pqi::test {

inline std::shared_ptr<const Model> SmallModel(bool with_codes = true) {
  ModelBuilder b;
  const int q = b.AddQuant(8, 128, 0, 255, 0.5f);
  const int x = b.AddInput("x", R"("N",4)");
  const int codes = b.AddNode("quantize", {x}, q, {}, R"("layout":"same")");
  const int weight = b.AddCodes({3, 4}, 8, "none", {1, 2, 3, 4, 0, 0, 0, 0, -1, -1, -1, -1});
  const int y = b.AddNode("linear", {codes}, -1, {{"weight", weight}, {"scale", b.AddFloats({3}, {1, 1, 1})}},
                          std::string(R"("step":1,)") + kNoActivation);
  b.AddOutput("y", y);
  if (with_codes) b.AddOutput("codes", codes);
  return std::move(b.Build()).value();
}

}  // namespace pqi::test
