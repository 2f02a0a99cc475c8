#include "runtime/model.h"

#include <new>

#include "base/fpenv.h"
#include "format/file.h"
#include "graph/shapes.h"
#include "ops/op.h"

namespace pqi {
namespace {

int PortIndex(const std::vector<Port>& ports, const std::string& name) {
  for (size_t i = 0; i < ports.size(); ++i) {
    if (ports[i].name == name) return static_cast<int>(i);
  }
  return -1;
}

}  // namespace

Result<std::shared_ptr<const Model>> Model::FromBuffer(AlignedBuffer<uint8_t> file) {
  const FpEnvScope fp;  // the proofs multiply scales
  const size_t bytes = file.size();
  try {
    PQI_ASSIGN_OR_RETURN(LoadedModel loaded, LoadGraph(std::move(file), ops::FindOpDef));
    return std::shared_ptr<const Model>(new Model(std::move(loaded)));
  } catch (const std::bad_alloc&) {
    return NoMemory("no memory to load a file of " + std::to_string(bytes) + " bytes");
  }
}

Result<std::shared_ptr<const Model>> Model::Load(const std::string& path) {
  PQI_ASSIGN_OR_RETURN(AlignedBuffer<uint8_t> file, ReadModelFile(path));
  return FromBuffer(std::move(file));
}

Result<std::shared_ptr<const Model>> Model::FromBytes(Span<const uint8_t> bytes) {
  return FromBuffer(AlignedBuffer<uint8_t>::CopyOf(bytes));
}

Status Model::Save(const std::string& path) const { return SaveFileAtomically(path, bytes()); }

int Model::InputIndex(const std::string& name) const { return PortIndex(graph().inputs, name); }

int Model::OutputIndex(const std::string& name) const { return PortIndex(graph().outputs, name); }

Result<std::vector<ConcreteShape>> Model::Shapes(Span<const ConcreteShape> inputs) const {
  return InferConcreteShapes(graph(), ops::FindOpDef, inputs);
}

}  // namespace pqi
