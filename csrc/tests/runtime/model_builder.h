// Small models for tests: graph JSON and constants, written and loaded through the validator.
#pragma once

#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "runtime/model.h"
#include "runtime/session.h"

namespace pqi::test {

inline const char* const kNoActivation = R"("activation":"none","lo":0,"hi":0)";
inline const char* const kRelu = R"("activation":"relu","lo":0,"hi":0)";

class ModelBuilder {
 public:
  using Constants = std::vector<std::pair<std::string, int>>;  // a key of the node, and the constant's id

  // Each of these returns the id of what it adds.
  int AddQuant(int bits, int zero_point, int qmin, int qmax, float scale);
  int AddFloats(const std::vector<int64_t>& shape, const std::vector<float>& elements);
  int AddInts(const std::vector<int64_t>& shape, const std::vector<int32_t>& elements);
  int AddBytes(const std::vector<int64_t>& shape, const std::vector<uint8_t>& elements);
  int AddCodes(const std::vector<int64_t>& shape, int bits, const char* packing, const std::vector<int8_t>& elements);
  static constexpr int kIntegers = -2;
  // `shape` is JSON, as R"("N",3,8,8)"; a quant of -1 makes the value f32, and kIntegers makes it i32.
  int AddInput(const std::string& name, const std::string& shape, int quant = -1);
  int AddIndices(const std::string& name, const std::string& shape);  // adds an i32 input
  // Adds a node and the value it writes, whose shape is inferred. `attrs` is JSON without braces. Returns the value.
  int AddNode(const std::string& op, const std::vector<int>& inputs, int quant, const Constants& constants, const std::string& attrs);
  void AddOutput(const std::string& name, int value);

  std::string Json() const;
  // Makes the model of the builder's graph, or of another text over its constants.
  Result<std::shared_ptr<const Model>> Build() const { return BuildText(Json()); }
  Result<std::shared_ptr<const Model>> BuildText(const std::string& json) const;

 private:
  struct Stored {
    ConstType type;
    std::vector<int64_t> shape;
    std::vector<uint8_t> bytes;
  };
  template <typename T>
  int Add(ConstType type, const char* dtype, const std::vector<int64_t>& shape, const std::vector<T>& elements, const std::string& more);

  std::vector<Stored> stored_;
  std::vector<float> scales_;
  std::vector<std::string> quants_, constants_, values_, nodes_, inputs_, outputs_;
};

// Draws `count` codes of `bits` bits (ternary for 2) over their whole range.
std::vector<int8_t> RandomCodes(std::mt19937* random, size_t count, int bits);
std::vector<float> RandomFloats(std::mt19937* random, size_t count, float lo, float hi);

// What a run gives, each value as bytes: outputs in the graph's order, and the values that nodes write.
struct RunOutcome {
  std::vector<std::vector<uint8_t>> outputs;
  std::vector<std::vector<uint8_t>> captured;  // one per node; empty unless asked for
};
RunOutcome RunModel(Session* session, const std::vector<ConcreteShape>& shapes, const std::vector<const void*>& inputs,
                    bool capture_all = false);

std::unique_ptr<Session> MakeSession(const std::shared_ptr<const Model>& model, int threads, const std::string& isa,
                                     ArenaReuse reuse = ArenaReuse::kReuse);
std::unique_ptr<Session> MakeSession(const std::shared_ptr<const Model>& model, int threads, const kernels::KernelSet& kernels);

}  // namespace pqi::test
