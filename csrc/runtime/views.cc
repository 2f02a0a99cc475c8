#include "runtime/views.h"

#include <algorithm>

namespace pqi {
namespace {

// Whether the output is one piece of each input after the other, for every shape that may come.
bool Contiguous(const Shape& output, size_t axis) {
  return std::all_of(output.begin(), output.begin() + static_cast<std::ptrdiff_t>(axis), [](const Dim& d) { return d == Dim::Fixed(1); });
}

}  // namespace

std::vector<uint64_t> FindViews(const Graph& graph, Span<const std::unique_ptr<ops::Step>> steps) {
  constexpr size_t kNone = SIZE_MAX;
  std::vector<size_t> writer(graph.values.size(), kNone), readers(graph.values.size(), 0);
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    for (uint32_t id : graph.nodes[n].inputs) ++readers[id];
    for (uint32_t id : graph.nodes[n].outputs) writer[id] = n;
  }
  for (const Port& output : graph.outputs) ++readers[output.value];

  std::vector<uint64_t> views(graph.nodes.size(), 0);
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    const Node& node = graph.nodes[n];
    const ops::Joint joint = steps[n]->joint();
    if (joint.inputs == 0) continue;
    const Shape& output = graph.values[node.outputs[0]].shape;
    const bool contiguous = Contiguous(output, joint.axis), rows = !joint.whole && joint.axis + 1 == output.size();
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      const uint32_t id = node.inputs[i];
      if ((joint.inputs >> i & 1) == 0 || writer[id] == kNone || readers[id] != 1) continue;
      if (contiguous || (rows && steps[writer[id]]->SpacesRows())) views[n] |= uint64_t{1} << i;
    }
  }
  return views;
}

std::vector<Placement> PlaceViews(const Graph& graph, Span<const std::unique_ptr<ops::Step>> steps, Span<const uint64_t> views,
                                  Span<const ConcreteShape> shapes) {
  std::vector<Placement> placements(graph.values.size());
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    if (views[n] == 0) continue;
    const Node& node = graph.nodes[n];
    const ops::Joint joint = steps[n]->joint();
    const size_t axis = joint.axis;
    size_t offset = 0;
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      const ConcreteShape& shape = shapes[node.inputs[i]];
      if (views[n] >> i & 1) placements[node.inputs[i]] = {node.outputs[0], offset, !joint.whole};
      size_t piece = DTypeSize(graph.values[node.outputs[0]].dtype);
      for (size_t d = axis; d < shape.size(); ++d) piece *= static_cast<size_t>(shape[d]);
      offset += piece;
    }
  }
  return placements;
}

}  // namespace pqi
