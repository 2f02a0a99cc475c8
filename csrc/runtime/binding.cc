#include "runtime/binding.h"

#include <cstring>

namespace pqi {
namespace {

bool Aligned(const void* data, DType dtype) { return reinterpret_cast<uintptr_t>(data) % DTypeSize(dtype) == 0; }

}  // namespace

void Binding::Bind(const Graph& graph, const RunPlan& plan, uint8_t* arena, Span<const void* const> inputs, Span<const Target> targets,
                   Span<const uint8_t> copied) {
  data_.assign(graph.values.size(), nullptr);
  stride_.assign(graph.values.size(), 0);
  inputs_.resize(inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    const uint32_t value = graph.inputs[i].value;
    const size_t bytes = plan.ValueBytes(graph, value);
    if (!copied[i] && Aligned(inputs[i], graph.values[value].dtype)) {
      data_[value] = const_cast<void*>(inputs[i]);  // steps write outputs only
    } else {
      inputs_[i].Reserve(bytes);
      data_[value] = inputs_[i].data();
      if (bytes != 0) std::memcpy(data_[value], inputs[i], bytes);
    }
  }
  if (targets_.size() < targets.size()) targets_.resize(targets.size());
  for (size_t t = 0; t < targets.size(); ++t) {
    const uint32_t value = targets[t].value;
    const bool written = plan.memory.value_offset[value] != kNotInArena && data_[value] == nullptr;
    if (!written) continue;  // the value is the caller's own input, or a target before this one has it
    if (Aligned(targets[t].data, graph.values[value].dtype)) {
      data_[value] = targets[t].data;
    } else {
      targets_[t].Reserve(plan.ValueBytes(graph, value));
      data_[value] = targets_[t].data();
    }
  }
  for (size_t n = graph.nodes.size(); n-- > 0;) {  // in this order owners come before what lies inside them
    for (uint32_t value : graph.nodes[n].outputs) {
      const ConcreteShape& shape = plan.shapes[value];
      stride_[value] = shape.empty() ? 1 : shape.back();
      if (data_[value] != nullptr) continue;
      const Placement& at = plan.placements[value];
      if (at.owner == kNoOwner) {
        data_[value] = arena + plan.memory.value_offset[value];
      } else {  // where rows are the owner's, they are as far apart, or there is only one
        data_[value] = static_cast<uint8_t*>(data_[at.owner]) + at.offset;
        if (at.rows) stride_[value] = stride_[at.owner];
      }
    }
  }
}

void Binding::CopyOut(const Graph& graph, const RunPlan& plan, Span<const Target> targets) const {
  for (const Target& t : targets) {
    const size_t bytes = plan.ValueBytes(graph, t.value);
    if (data_[t.value] != t.data && bytes != 0) std::memcpy(t.data, data_[t.value], bytes);
  }
}

}  // namespace pqi
