// A handful of ops and a small model for tests of the graph layer, which knows no op.
#pragma once

#include <string>
#include <vector>

#include "format/container.h"
#include "graph/load.h"
#include "graph/op_def.h"
#include "graph/write.h"
#include "tests/format/test_files.h"

namespace pqi::test {

// The ops are: copy: t -> t, of the same type and shape. join: t, t, ... of one shape -> t. code: f32 -> u8.
// dense: u8 [..., I] -> f32 [..., O] with weight code[O, I], scale f32[O]; proves sum |weight| * qmax <= 10000 per row.
// half: last dimension halved, at least 2 before. blow: last dimension times the attribute "by".
const OpDef* ToyOps(const std::string& name);

// x f32 [N, 5] -> code -> dense (weights in 4 bits) -> y f32 [N, 3], with one sample. Shapes of node-written values are left out of the
// draft.
extern const char* const kToyDraft;
// The toy graph's text as it lies in the file: canonical, with all shapes.
extern const char* const kToyGraph;

// Elements of the toy model's constants.
struct ToyConstants {
  std::vector<float> activation_scales = {0.5f};
  std::vector<int8_t> weight = {1, -2, 3, -4, 5, -6, 7, -8, 0, 1, 2, 3, -1, -1, -1};
  std::vector<float> scale = {0.25f, -1.5f, 2.0f};
  std::vector<float> sample_x = std::vector<float>(10, 1.0f);
  std::vector<float> sample_y = std::vector<float>(6, 2.0f);

  std::vector<LogicalArray> Arrays() const;
};

template <typename T>
LogicalArray ArrayOf(ConstType type, std::vector<int64_t> shape, const std::vector<T>& elements) {
  return {type, std::move(shape), {reinterpret_cast<const uint8_t*>(elements.data()), elements.size() * sizeof(T)}};
}

Bytes ToyFile(const ToyConstants& constants = {});

// The toy model's file with other graph text around the same tensors.
Bytes ToyFileWithGraph(const std::string& graph);

Result<LoadedModel> Load(const Bytes& file);

// Graph text of `nodes` (JSON objects) between one f32 input x of `input_shape` (JSON), value 0, and the output `output`; `values` are
// those written by nodes. Without quants and constants.
std::string GraphText(const std::string& input_shape, const std::string& values, const std::string& nodes, size_t output,
                      const std::string& symbols = "");
std::string F32Value(const std::string& name, const std::string& shape);
std::string NodeText(const std::string& op, const std::string& name, const std::string& inputs, const std::string& outputs,
                     const std::string& attrs = "");

}  // namespace pqi::test
