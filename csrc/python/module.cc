// The extension module pyqinfer._core (pyqinfer/_core.pyi): thin bindings over runtime/.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "base/cpus.h"
#include "base/text.h"
#include "codec/trit_rans.h"
#include "graph/constants.h"
#include "graph/serialize.h"
#include "graph/write.h"
#include "ops/op.h"
#include "python/arrays.h"
#include "python/errors.h"
#include "runtime/machine.h"
#include "runtime/model.h"
#include "runtime/session.h"

namespace py = pybind11;

namespace pqi::python {
namespace {

using ModelPtr = std::shared_ptr<const Model>;

// ---- files

// Gives a str path as the system's bytes, undecodable names included. ValueError if it holds a NUL.
std::string FsPath(const py::str& path) {
  PyObject* bytes = nullptr;
  if (!PyUnicode_FSConverter(path.ptr(), &bytes)) throw py::error_already_set();
  return py::reinterpret_steal<py::bytes>(bytes);
}

ModelPtr ModelFromBytes(Span<const uint8_t> bytes) {
  Result<ModelPtr> model = [&] {
    const py::gil_scoped_release unlocked;
    return Model::FromBytes(bytes);
  }();
  return Unwrap(std::move(model));
}

Span<const uint8_t> View(const std::string_view s) { return {reinterpret_cast<const uint8_t*>(s.data()), s.size()}; }

py::bytes Bytes(Span<const uint8_t> s) { return py::bytes(reinterpret_cast<const char*>(s.data()), s.size()); }

ModelPtr LoadModel(const py::str& path) {
  const std::string name = FsPath(path);
  Result<ModelPtr> model = [&] {
    const py::gil_scoped_release unlocked;
    return Model::Load(name);
  }();
  return Unwrap(std::move(model));
}

void SaveModel(const ModelPtr& model, const py::str& path) {
  const std::string name = FsPath(path);
  const Status status = [&] {
    const py::gil_scoped_release unlocked;
    return model->Save(name);
  }();
  Unwrap(status);
}

ConstType TypeOfConstant(const py::array& array, size_t index) {
  if (py::isinstance<py::array_t<int8_t, 0>>(array)) return ConstType::kCode;
  if (py::isinstance<py::array_t<float, 0>>(array)) return ConstType::kF32;
  if (py::isinstance<py::array_t<int32_t, 0>>(array)) return ConstType::kI32;
  if (py::isinstance<py::array_t<uint8_t, 0>>(array)) return ConstType::kU8;
  throw py::type_error("constant " + std::to_string(index) + ": expected int8 (codes), float32, int32 or uint8, got " + DTypeText(array));
}

py::bytes WriteModel(const std::string& graph_json, const py::sequence& constants, const std::string& producer) {
  std::vector<py::array> arrays;  // keep the elements alive
  std::vector<LogicalArray> logical;
  for (const py::handle item : constants) {
    if (!py::isinstance<py::array>(item)) throw py::type_error("constant " + std::to_string(arrays.size()) + ": expected a numpy array");
    const auto array = py::reinterpret_borrow<py::array>(item);
    const ConstType type = TypeOfConstant(array, arrays.size());
    arrays.push_back(Contiguous(array));
    const py::array& kept = arrays.back();
    logical.push_back({type, ShapeOf(kept), {static_cast<const uint8_t*>(kept.data()), static_cast<size_t>(kept.nbytes())}});
  }
  const AlignedBuffer<uint8_t> bytes = Unwrap(WriteGraph(graph_json, logical, producer, ops::FindOpDef));
  ModelFromBytes(bytes.span());  // nothing leaves that the validator would refuse
  return Bytes(bytes.span());
}

// ---- codec

py::bytes PackTrits(const py::array_t<int8_t, py::array::c_style>& codes) {
  return Bytes(Unwrap(PackTritRans({codes.data(), static_cast<size_t>(codes.size())})));
}

py::array UnpackTrits(const std::string_view stream, size_t count) {
  Unwrap(CheckTritRansSize(stream.size(), count));
  py::array_t<int8_t> codes(static_cast<py::ssize_t>(count));
  Unwrap(UnpackTritRans(View(stream), {codes.mutable_data(), count}));
  return codes;
}

// ---- models

const Constant& ConstantAt(const ModelPtr& model, size_t index) {
  const auto& constants = model->graph().constants;
  if (index >= constants.size()) {
    throw py::index_error("constant " + std::to_string(index) + ", but there are " + std::to_string(constants.size()));
  }
  return constants[index];
}

template <typename T>
py::array CopyOf(const Constant& c) {
  py::array_t<T> out(std::vector<py::ssize_t>(c.shape.begin(), c.shape.end()));
  const Span<const T> elements = ElementsOf<T>(c);
  std::copy(elements.begin(), elements.end(), out.mutable_data());
  return out;
}

py::array ConstantArray(const ModelPtr& model, size_t index) {
  const Constant& c = ConstantAt(model, index);
  switch (c.type) {
    case ConstType::kF32:
      return CopyOf<float>(c);
    case ConstType::kI32:
      return CopyOf<int32_t>(c);
    case ConstType::kU8:
      return CopyOf<uint8_t>(c);
    case ConstType::kCode:
      break;
  }
  py::array_t<int8_t> codes(std::vector<py::ssize_t>(c.shape.begin(), c.shape.end()));
  Unwrap(UnpackCodes(c, {codes.mutable_data(), static_cast<size_t>(codes.size())}));
  return codes;
}

// Gives the items of a mapping in the order of the model's inputs; ValueError if the names are not exactly those.
std::vector<py::object> InInputOrder(const Model& model, const py::object& mapping) {
  const py::dict items(mapping);
  const auto& ports = model.graph().inputs;
  std::string names;
  std::vector<py::object> ordered;
  for (const Port& port : ports) names += (names.empty() ? "" : ", ") + Quoted(port.name);
  for (const auto& [key, value] : items) {
    if (!py::isinstance<py::str>(key)) throw py::type_error("input names are strings");
    const std::string name = py::cast<std::string>(key);
    if (model.InputIndex(name) < 0) throw py::value_error("no input named " + Quoted(name) + "; the model's inputs are " + names);
  }
  for (const Port& port : ports) {
    const py::str key(port.name);
    if (!items.contains(key)) throw py::value_error("input " + Quoted(port.name) + " is missing; the model's inputs are " + names);
    ordered.push_back(items[key]);
  }
  return ordered;
}

py::tuple TupleOf(const ConcreteShape& shape) {
  py::tuple out(shape.size());
  for (size_t i = 0; i < shape.size(); ++i) out[i] = shape[i];
  return out;
}

py::list InferShapes(const ModelPtr& model, const py::object& shapes) {
  std::vector<ConcreteShape> inputs;
  for (const py::object& shape : InInputOrder(*model, shapes)) inputs.push_back(py::cast<ConcreteShape>(shape));
  py::list out;
  for (const ConcreteShape& shape : Unwrap(model->Shapes(inputs))) out.append(TupleOf(shape));
  return out;
}

// ---- sessions

// The inputs of a call once they are checked, and the plan for their shapes.
struct BoundInputs {
  std::vector<py::array> arrays;  // they are contiguous, and keep the memory alive
  std::vector<const void*> data;
  std::shared_ptr<const RunPlan> plan;
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
  bound.plan = Unwrap(session.PlanFor(shapes));  // before any copy: the shapes may be absurd
  for (py::array& array : bound.arrays) {
    array = Contiguous(array);
    bound.data.push_back(array.data());
  }
  return bound;
}

uint32_t ValueOfLayer(const Graph& graph, const std::string& name) {
  for (const Node& node : graph.nodes) {
    if (node.name == name) return node.outputs[0];
  }
  throw py::value_error("capture: no layer named " + Quoted(name));
}

py::dict RunSession(Session& session, const py::object& inputs, const std::vector<std::string>& capture) {
  const Graph& graph = session.model().graph();
  std::vector<std::pair<std::string, uint32_t>> wanted;
  for (const Port& port : graph.outputs) wanted.emplace_back(port.name, port.value);
  for (const std::string& name : capture) wanted.emplace_back(name, ValueOfLayer(graph, name));

  const BoundInputs bound = Bind(session, inputs);
  py::dict result;
  std::vector<Target> targets;
  for (const auto& [name, value] : wanted) {
    if (result.contains(name)) continue;  // an output and a layer of one name: the output
    py::array array = EmptyArray(graph.values[value].dtype, bound.plan->shapes[value]);
    targets.push_back({value, array.mutable_data()});
    result[py::str(name)] = std::move(array);
  }
  const Status status = [&] {
    const py::gil_scoped_release unlocked;
    return session.Run(*bound.plan, bound.data, targets);
  }();
  Unwrap(status);
  return result;
}

py::list ProfileSession(Session& session, const py::object& inputs, int repeat) {
  const BoundInputs bound = Bind(session, inputs);
  Result<std::vector<double>> times = [&] {
    const py::gil_scoped_release unlocked;
    return session.Profile(*bound.plan, bound.data, repeat);
  }();
  const std::vector<double> ms = Unwrap(std::move(times));
  py::list out;
  for (size_t i = 0; i < ms.size(); ++i) out.append(py::make_tuple(session.model().graph().nodes[i].name, ms[i]));
  return out;
}

py::list SessionLayers(const Session& session) {
  py::list out;
  for (const LayerInfo& info : session.Layers()) {
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

std::unique_ptr<Session> MakeSession(const ModelPtr& model, int threads, const std::string& isa, const std::string& algorithm,
                                     const std::string& fip) {
  SessionOptions options;
  options.threads = threads;
  options.isa = isa;
  options.plan = {algorithm, fip};
  Result<std::unique_ptr<Session>> session = [&] {
    const py::gil_scoped_release unlocked;
    return Session::Create(model, options);
  }();
  return Unwrap(std::move(session));
}

py::dict CpuInfo() {
  py::list isas;
  for (Isa isa : AvailableIsas()) isas.append(IsaName(isa));
  py::dict info;
  info["brand"] = CpuBrand();
  info["isas"] = isas;
  const Selection best = Unwrap(SelectKernels("auto"));
  info["best"] = IsaName(best.kernels->isa);
  info["warning"] = best.warning;
  info["threads"] = UsableCpus();
  info["compiler"] = CompilerName();
  return info;
}

py::list OpNames() {
  py::list names;
  for (const ops::Op* op : ops::AllOps()) names.append(op->def.name);
  return names;
}

}  // namespace

PYBIND11_MODULE(_core, m) {
  m.attr("__version__") = PQI_VERSION;
  m.def("cpu_info", CpuInfo);
  m.def("op_names", OpNames);
  m.def("pack_trits", PackTrits, py::arg("codes"));
  m.def("unpack_trits", UnpackTrits, py::arg("stream"), py::arg("count"));
  m.def("write_model", WriteModel, py::arg("graph_json"), py::arg("constants"), py::arg("producer"));

  py::class_<Model, std::shared_ptr<Model>>(m, "Model")
      .def_static(
          "from_bytes", [](const py::bytes& data) { return std::const_pointer_cast<Model>(ModelFromBytes(View(std::string_view(data)))); },
          py::arg("data"))
      .def_static(
          "load", [](const py::str& path) { return std::const_pointer_cast<Model>(LoadModel(path)); }, py::arg("path"))
      .def(
          "save", [](const std::shared_ptr<Model>& self, const py::str& path) { SaveModel(self, path); }, py::arg("path"))
      .def("to_bytes", [](const Model& self) { return Bytes(self.bytes()); })
      .def_property_readonly("graph_json", [](const Model& self) { return SerializeGraph(self.graph(), ScaleText::kBits); })
      .def(
          "constant", [](const std::shared_ptr<Model>& self, size_t index) { return ConstantArray(self, index); }, py::arg("index"))
      .def(
          "constant_nbytes", [](const std::shared_ptr<Model>& self, size_t index) { return ConstantAt(self, index).bytes.size(); },
          py::arg("index"))
      .def_property_readonly("nbytes", [](const Model& self) { return self.bytes().size(); })
      .def(
          "infer_shapes", [](const std::shared_ptr<Model>& self, const py::object& shapes) { return InferShapes(self, shapes); },
          py::arg("shapes"));

  py::class_<Session>(m, "Session")
      .def(py::init([](const std::shared_ptr<Model>& model, int threads, const std::string& isa, const std::string& algorithm,
                       const std::string& fip) { return MakeSession(model, threads, isa, algorithm, fip); }),
           py::arg("model"), py::arg("threads"), py::arg("isa"), py::arg("algorithm") = "auto", py::arg("fip") = "auto")
      .def_property_readonly("isa", [](const Session& self) { return IsaName(self.isa()); })
      .def_property_readonly("warning", &Session::warning)
      .def_property_readonly("threads", &Session::threads)
      .def("run", RunSession, py::arg("inputs"), py::arg("capture"))
      .def("layers", SessionLayers)
      .def("profile", ProfileSession, py::arg("inputs"), py::arg("repeat"))
      .def("memory", [](Session& self) {
        const MemoryReport report = self.Memory();
        py::dict out;
        out["weight_bytes"] = report.weight_bytes;
        out["arena_bytes"] = report.arena_bytes;
        return out;
      });
}

}  // namespace pqi::python
