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
#include "python/gil.h"
#include "python/held.h"
#include "python/ports.h"
#include "python/sessions.h"
#include "python/text.h"
#include "runtime/machine.h"
#include "runtime/model.h"

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
  return Unwrap(WithoutGil([&] { return Model::FromBytes(bytes); }));
}

Span<const uint8_t> View(const std::string_view s) { return {reinterpret_cast<const uint8_t*>(s.data()), s.size()}; }

py::bytes Bytes(Span<const uint8_t> s) {
  PyObject* const bytes = PyBytes_FromStringAndSize(reinterpret_cast<const char*>(s.data()), static_cast<Py_ssize_t>(s.size()));
  if (!bytes) throw py::error_already_set();  // MemoryError, where py::bytes would make a RuntimeError of it
  return py::reinterpret_steal<py::bytes>(bytes);
}

ModelPtr LoadModel(const py::str& path) {
  const std::string name = FsPath(path);
  return Unwrap(WithoutGil([&] { return Model::Load(name); }));
}

void SaveModel(const Held<Model>& model, const py::str& path) {
  const std::string name = FsPath(path);
  Unwrap(WithoutGil([&] { return model->Save(name); }));
}

ConstType TypeOfConstant(const py::array& array, size_t index) {
  if (py::isinstance<py::array_t<int8_t, 0>>(array)) return ConstType::kCode;
  if (py::isinstance<py::array_t<float, 0>>(array)) return ConstType::kF32;
  if (py::isinstance<py::array_t<int32_t, 0>>(array)) return ConstType::kI32;
  if (py::isinstance<py::array_t<uint8_t, 0>>(array)) return ConstType::kU8;
  throw py::type_error("constant " + std::to_string(index) + ": expected int8 (codes), float32, int32 or uint8, got " + DTypeText(array));
}

py::bytes WriteModel(const py::str& graph_json, const py::sequence& constants, const py::str& producer) {
  std::vector<py::array> arrays;  // keep the elements alive
  std::vector<LogicalArray> logical;
  for (const py::handle item : constants) {
    if (!py::isinstance<py::array>(item)) throw py::type_error("constant " + std::to_string(arrays.size()) + ": expected a numpy array");
    const auto array = py::reinterpret_borrow<py::array>(item);
    const ConstType type = TypeOfConstant(array, arrays.size());
    arrays.push_back(Contiguous("constant " + std::to_string(arrays.size()), array));
    const py::array& kept = arrays.back();
    logical.push_back({type, ShapeOf(kept), {static_cast<const uint8_t*>(kept.data()), static_cast<size_t>(kept.nbytes())}});
  }
  const AlignedBuffer<uint8_t> bytes =
      Unwrap(WriteGraph(TextOf("graph_json", graph_json), logical, TextOf("producer", producer), ops::FindOpDef));
  ModelFromBytes(bytes.span());  // nothing leaves that the validator would refuse
  return Bytes(bytes.span());
}

// ---- codec

py::bytes PackTrits(const py::array_t<int8_t, 0>& given) {
  const py::array codes = Contiguous("codes", given);
  // Packing reads codes more than once, so it reads a copy: another thread may change the caller's.
  const auto* first = static_cast<const int8_t*>(codes.data());
  const std::vector<int8_t> own(first, first + codes.size());
  return Bytes(Unwrap(PackTritRans(own)));
}

py::array UnpackTrits(const std::string_view stream, size_t count) {
  Unwrap(CheckTritRansSize(stream.size(), count));
  py::array_t<int8_t> codes(static_cast<py::ssize_t>(count));
  Unwrap(UnpackTritRans(View(stream), {codes.mutable_data(), count}));
  return codes;
}

// ---- models

const Constant& ConstantAt(const Model& model, size_t index) {
  const auto& constants = model.graph().constants;
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

py::array ConstantArray(const Model& model, size_t index) {
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

py::tuple TupleOf(const ConcreteShape& shape) {
  py::tuple out(shape.size());
  for (size_t i = 0; i < shape.size(); ++i) out[i] = shape[i];
  return out;
}

py::list InferShapes(const Held<Model>& model, const py::object& shapes) {
  std::vector<ConcreteShape> inputs;
  for (const py::object& shape : InInputOrder(*model, shapes)) inputs.push_back(DimsOf("shape of an input", shape));
  py::list out;
  for (const ConcreteShape& shape : Unwrap(model->Shapes(inputs))) out.append(TupleOf(shape));
  return out;
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

  MakeClass<Model>(m, "Model")
      .def_static(
          "from_bytes", [](const py::bytes& data) { return std::const_pointer_cast<Model>(ModelFromBytes(View(std::string_view(data)))); },
          py::arg("data"))
      .def_static(
          "load", [](const py::str& path) { return std::const_pointer_cast<Model>(LoadModel(path)); }, py::arg("path"))
      .def("save", SaveModel, py::arg("path"))
      .def("to_bytes", [](const Held<Model>& self) { return Bytes(self->bytes()); })
      .def_property_readonly("graph_json", [](const Held<Model>& self) { return SerializeGraph(self->graph(), ScaleText::kBits); })
      .def(
          "constant", [](const Held<Model>& self, size_t index) { return ConstantArray(*self, index); }, py::arg("index"))
      .def(
          "constant_nbytes", [](const Held<Model>& self, size_t index) { return ConstantAt(*self, index).bytes.size(); }, py::arg("index"))
      .def_property_readonly("nbytes", [](const Held<Model>& self) { return self->bytes().size(); })
      .def("infer_shapes", InferShapes, py::arg("shapes"));
  AddSession(m);
}

}  // namespace pqi::python
