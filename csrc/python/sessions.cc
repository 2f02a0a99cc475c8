// pyqinfer._core.Session: arrays in, arrays out.
#include "python/sessions.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/text.h"
#include "python/arrays.h"
#include "python/errors.h"
#include "python/gil.h"
#include "python/held.h"
#include "python/interrupt.h"
#include "python/ports.h"
#include "python/text.h"
#include "runtime/session.h"

namespace py = pybind11;

namespace pqi::python {
namespace {

// The inputs of a call once they are checked, and the plan for their shapes.
struct BoundInputs {
  std::vector<py::array> arrays;  // they keep the memory alive
  std::vector<const void*> data;  // in C order, once Copy has run
  std::shared_ptr<const RunPlan> plan;

  // Copies the arrays that lie in another order.
  void Copy(const Graph& graph) {
    for (size_t i = 0; i < arrays.size(); ++i) {
      arrays[i] = Contiguous("input " + Quoted(graph.inputs[i].name), arrays[i]);
      data.push_back(arrays[i].data());
    }
  }
};

BoundInputs Bind(Session& session, const py::object& inputs) {
  const Graph& graph = session.model().graph();
  const std::vector<py::object> ordered = InInputOrder(session.model(), inputs);
  BoundInputs bound;
  std::vector<ConcreteShape> shapes;
  for (size_t i = 0; i < ordered.size(); ++i) {
    const Port& port = graph.inputs[i];
    bound.arrays.push_back(RequireArray("input " + Quoted(port.name), ordered[i], graph.values[port.value].dtype));
    shapes.push_back(ShapeOf(bound.arrays.back()));
  }
  bound.plan = Unwrap(session.PlanFor(shapes));
  return bound;
}

uint32_t ValueOfLayer(const Graph& graph, const std::string& name) {
  for (const Node& node : graph.nodes) {
    if (node.name == name) return node.outputs[0];
  }
  throw py::value_error("capture: no layer named " + Quoted(name));
}

const CancelFlag* FlagOf(const std::optional<Held<CancelFlag>>& cancel) { return cancel ? cancel->get().get() : nullptr; }

py::dict RunSession(const Held<Session>& session, const py::object& inputs, const py::sequence& capture, size_t max_memory,
                    const std::optional<Held<CancelFlag>>& cancel) {
  const Graph& graph = session->model().graph();
  std::vector<std::pair<std::string, uint32_t>> wanted;
  for (const Port& port : graph.outputs) wanted.emplace_back(port.name, port.value);
  for (const py::handle item : capture) {
    const std::string name = TextOf("capture", item);
    const auto has_name = [&](const auto& pair) { return pair.first == name; };
    // An output and a layer of one name: the output.
    if (std::none_of(wanted.begin(), wanted.end(), has_name)) wanted.emplace_back(name, ValueOfLayer(graph, name));
  }

  BoundInputs bound = Bind(*session, inputs);
  std::vector<Target> targets;
  for (const auto& [name, value] : wanted) targets.push_back({value, nullptr});
  Watch watch(FlagOf(cancel));
  const RunOptions options = watch.Options(max_memory);
  Unwrap(session->CheckMemory(*bound.plan, targets, options));  // before any copy: the shapes may be absurd
  bound.Copy(graph);
  py::dict result;
  for (size_t i = 0; i < wanted.size(); ++i) {
    const auto& [name, value] = wanted[i];
    py::array array = EmptyArray("value " + Quoted(name), graph.values[value].dtype, bound.plan->shapes[value]);
    targets[i].data = array.mutable_data();
    result[py::str(name)] = std::move(array);
  }
  const Status status = WithoutGil([&] { return session->Run(*bound.plan, bound.data, targets, options); });
  watch.Rethrow();
  Unwrap(status);
  return result;
}

py::list ProfileSession(const Held<Session>& session, const py::object& inputs, int repeat, size_t max_memory,
                        const std::optional<Held<CancelFlag>>& cancel) {
  BoundInputs bound = Bind(*session, inputs);
  Watch watch(FlagOf(cancel));
  const RunOptions options = watch.Options(max_memory);
  Unwrap(session->CheckMemory(*bound.plan, {}, options));
  bound.Copy(session->model().graph());
  Result<std::vector<double>> times = WithoutGil([&] { return session->Profile(*bound.plan, bound.data, repeat, options); });
  watch.Rethrow();
  const std::vector<double> ms = Unwrap(std::move(times));
  py::list out;
  for (size_t i = 0; i < ms.size(); ++i) out.append(py::make_tuple(session->model().graph().nodes[i].name, ms[i]));
  return out;
}

py::list SessionLayers(const Held<Session>& session) {
  py::list out;
  for (const LayerInfo& info : session->Layers()) {
    py::dict row;
    row["name"] = info.name;
    row["op"] = info.op;
    row["weight_bits"] = info.weight_bits;
    row["act_bits"] = info.act_bits;
    row["executed_as"] = info.executed_as;
    row["reason"] = info.reason;
    row["weight_bytes"] = info.weight_bytes;
    out.append(row);
  }
  return out;
}

py::dict SessionMemory(const Held<Session>& session) {
  const MemoryReport report = session->Memory();
  py::dict out;
  out["weight_bytes"] = report.weight_bytes;
  out["arena_bytes"] = report.arena_bytes;
  return out;
}

std::unique_ptr<Session> MakeSession(const Held<Model>& model, int threads, const py::str& isa, const py::str& algorithm,
                                     const py::str& fip) {
  SessionOptions options;
  options.threads = threads;
  options.isa = TextOf("isa", isa);
  options.plan = {TextOf("algorithm", algorithm), TextOf("fip", fip)};
  return Unwrap(WithoutGil([&] { return Session::Create(model.get(), options); }));
}

}  // namespace

void AddSession(py::module_& m) {
  MakeClass<CancelFlag>(m, "CancelFlag")
      .def(py::init<>())
      .def("set", [](const Held<CancelFlag>& self) { self->set.store(true); })
      .def("clear", [](const Held<CancelFlag>& self) { self->set.store(false); })
      .def("is_set", [](const Held<CancelFlag>& self) { return self->set.load(); });

  MakeClass<Session>(m, "Session")
      .def(py::init(&MakeSession), py::arg("model"), py::arg("threads"), py::arg("isa"), py::arg("algorithm") = "auto",
           py::arg("fip") = "auto")
      .def_property_readonly("isa", [](const Held<Session>& self) { return IsaName(self->isa()); })
      .def_property_readonly("warning", [](const Held<Session>& self) { return self->warning(); })
      .def_property_readonly("threads", [](const Held<Session>& self) { return self->threads(); })
      .def("run", RunSession, py::arg("inputs"), py::arg("capture"), py::arg("max_memory") = 0, py::arg("cancel") = py::none())
      .def("layers", SessionLayers)
      .def("profile", ProfileSession, py::arg("inputs"), py::arg("repeat"), py::arg("max_memory") = 0, py::arg("cancel") = py::none())
      .def("memory", SessionMemory);
}

}  // namespace pqi::python
