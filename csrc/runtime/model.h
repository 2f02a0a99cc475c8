// A validated model: immutable, shared by any number of sessions.
#pragma once

#include <memory>
#include <string>

#include "base/span.h"
#include "base/status.h"
#include "graph/load.h"

namespace pqi {

class Model {
 public:
  // Errors are kIo, kModelFormat, kIntegrity and kUnsupported.
  static Result<std::shared_ptr<const Model>> Load(const std::string& path);
  // Copies the bytes, so the caller's buffer may change afterwards. Errors are those of Load but kIo.
  static Result<std::shared_ptr<const Model>> FromBytes(Span<const uint8_t> bytes);

  const Graph& graph() const { return loaded_.graph; }
  const std::string& producer() const { return loaded_.producer; }
  // The bytes of the whole file.
  Span<const uint8_t> bytes() const { return loaded_.file.span(); }
  Status Save(const std::string& path) const;

  // The index of a port by name, -1 if there is none.
  int InputIndex(const std::string& name) const;
  int OutputIndex(const std::string& name) const;

  // Gives the concrete shape of every value for the shapes of the inputs in order. kInvalidArgument names the input and both shapes.
  Result<std::vector<ConcreteShape>> Shapes(Span<const ConcreteShape> inputs) const;

 private:
  explicit Model(LoadedModel loaded) : loaded_(std::move(loaded)) {}
  static Result<std::shared_ptr<const Model>> FromBuffer(AlignedBuffer<uint8_t> file);

  LoadedModel loaded_;
};

}  // namespace pqi
