#include <algorithm>
#include <cstring>

#include "base/checked.h"
#include "base/text.h"
#include "format/container.h"
#include "format/fields.h"
#include "format/foreign.h"
#include "format/header.h"
#include "format/json.h"
#include "format/xxh64.h"

namespace pqi {
namespace {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensors of a file are used in place, so the machine must be little-endian");

uint64_t LoadU64(const uint8_t* p) {
  uint64_t value;
  std::memcpy(&value, p, sizeof(value));
  return value;
}

// The fuzzer's build accepts any hash: it could not get past them otherwise.
bool HashMatches(Span<const uint8_t> bytes, uint64_t expected) {
#ifdef PQI_FUZZ_ACCEPT_ANY_HASH
  (void)bytes, (void)expected;
  return true;
#else
  return Xxh64(bytes) == expected;
#endif
}

// A refusal before the header's hash is known to match. It says what the file is, if it is something else than a model.
Status NotAModel(Span<const uint8_t> prefix, const std::string& reason) {
  const std::string description = DescribeForeignFile(prefix);
  return ModelFormat("not a pyqinfer model: " + (description.empty() ? reason : "this is " + description));
}

Result<StoredType> ParseStoredType(std::string_view name, const std::string& where) {
  for (StoredType type : {StoredType::kI8, StoredType::kU8, StoredType::kI32, StoredType::kF32}) {
    if (name == StoredTypeName(type)) return type;
  }
  return ModelFormat(where + ": unknown dtype " + Quoted(name) + ", expected I8, U8, I32 or F32");
}

// Walks the tensors of the header in order; the next one must start where the last one ended.
class TensorReader {
 public:
  explicit TensorReader(Span<const uint8_t> data) : data_(data) {}

  Status Read(JsonRef entry, Tensor* tensor) {
    PQI_RETURN_IF_ERROR(CheckName(entry.key(), "tensor name"));
    tensor->name = std::string(entry.key());
    const std::string where = "tensor " + Quoted(tensor->name);
    PQI_RETURN_IF_ERROR(CheckKeys(entry, where, {"dtype", "shape", "data_offsets"}));
    PQI_ASSIGN_OR_RETURN(const JsonRef dtype, Member(entry, "dtype", JsonKind::kString, where));
    PQI_ASSIGN_OR_RETURN(tensor->type, ParseStoredType(dtype.text(), where));
    PQI_RETURN_IF_ERROR(ReadShape(entry, where, &tensor->shape));
    uint64_t bytes = 0;
    if (!CheckedByteSize(tensor->shape, StoredTypeSize(tensor->type), kMaxTensorBytes, &bytes)) {
      return ModelFormat(where + ": shape " + DimsText(tensor->shape) + " is larger than 2^40 bytes");
    }
    return Place(entry, where, bytes, tensor);
  }

  uint64_t end() const { return end_; }

 private:
  static Status ReadShape(JsonRef entry, const std::string& where, std::vector<int64_t>* shape) {
    PQI_ASSIGN_OR_RETURN(const JsonRef dims, Member(entry, "shape", JsonKind::kArray, where));
    if (dims.size() > kMaxTensorRank) return ModelFormat(where + ": rank " + std::to_string(dims.size()) + " is larger than 8");
    for (JsonRef dim : dims) {
      PQI_RETURN_IF_ERROR(CheckKind(dim, JsonKind::kNumber, where + ".shape"));
      if (dim.number() < 1 || dim.number() > kMaxTensorDim) {
        return ModelFormat(where + ": dimension " + std::to_string(dim.number()) + " is outside [1, 2^31 - 1]");
      }
      shape->push_back(static_cast<int64_t>(dim.number()));
    }
    return {};
  }

  Status Place(JsonRef entry, const std::string& where, uint64_t bytes, Tensor* tensor) {
    PQI_ASSIGN_OR_RETURN(const JsonRef offsets, Member(entry, "data_offsets", JsonKind::kArray, where));
    uint64_t at[2] = {0, 0};
    if (offsets.size() != 2) return ModelFormat(where + ": data_offsets needs 2 numbers, got " + std::to_string(offsets.size()));
    size_t index = 0;
    for (JsonRef offset : offsets) {
      PQI_RETURN_IF_ERROR(CheckKind(offset, JsonKind::kNumber, where + ".data_offsets"));
      at[index++] = offset.number();
    }
    if (at[0] != end_) return ModelFormat(where + ": starts at " + std::to_string(at[0]) + ", expected " + std::to_string(end_));
    if (at[1] < at[0] || at[1] - at[0] != bytes) {
      return ModelFormat(where + ": data_offsets do not span the " + std::to_string(bytes) + " bytes of shape " + DimsText(tensor->shape));
    }
    if (at[1] > data_.size()) return ModelFormat(where + ": ends at " + std::to_string(at[1]) + ", beyond the end of the file");
    tensor->bytes = {data_.data() + at[0], static_cast<size_t>(bytes)};
    end_ = at[1];
    return {};
  }

  Span<const uint8_t> data_;
  uint64_t end_ = 0;
};

// Holds a tensor whose name begins with '~' to the rules of padding: it stands where some is needed, and fills the gap.
Status CheckPadding(const Tensor& tensor, uint64_t start, size_t index) {
  const std::string where = "tensor " + Quoted(tensor.name);
  if (start % kAlignment == 0) return ModelFormat(where + ": names with '~' are for padding, and none is needed here");
  if (tensor.name != "~p" + std::to_string(index)) return ModelFormat(where + ": expected '~p" + std::to_string(index) + "'");
  if (tensor.type != StoredType::kU8 || tensor.shape.size() != 1 || tensor.bytes.size() != kAlignment - start % kAlignment) {
    return ModelFormat(where + ": padding must be U8[" + std::to_string(kAlignment - start % kAlignment) + "]");
  }
  return {};
}

Status ReadTensors(JsonRef header, Span<const uint8_t> data, Container* out, bool* has_header_hash) {
  TensorReader reader(data);
  for (JsonRef entry : header) {
    if (entry.key() == "__metadata__") continue;
    if (*has_header_hash) return ModelFormat("tensor " + Quoted(entry.key()) + " after '~hdr', which must be the last");
    const uint64_t start = reader.end();
    Tensor tensor;
    PQI_RETURN_IF_ERROR(reader.Read(entry, &tensor));
    if (tensor.name != kHeaderHashName && tensor.name[0] == '~') {
      PQI_RETURN_IF_ERROR(CheckPadding(tensor, start, out->padding.size()));
      out->padding.push_back(std::move(tensor));
      continue;
    }
    if (start % kAlignment != 0)
      return ModelFormat("tensor " + Quoted(tensor.name) + ": start " + std::to_string(start) + " is no multiple of 64");
    if (tensor.name != kHeaderHashName) {
      out->tensors.push_back(std::move(tensor));
      continue;
    }
    if (tensor.type != StoredType::kU8 || tensor.shape.size() != 1 || tensor.bytes.size() != 8) return ModelFormat("'~hdr' must be U8[8]");
    *has_header_hash = true;
  }
  if (!*has_header_hash) return ModelFormat("the last tensor must be '~hdr'");
  if (reader.end() != data.size()) {
    return ModelFormat("tensors end at " + std::to_string(reader.end()) + " of " + std::to_string(data.size()) + " bytes of data");
  }
  return {};
}

}  // namespace

Status CheckPrelude(Span<const uint8_t> prefix, uint64_t file_bytes) {
  if (file_bytes < kPreludeBytes || prefix.size() < kPreludeBytes) {
    return NotAModel(prefix, std::to_string(file_bytes) + " bytes are too few");
  }
  const uint64_t n = LoadU64(prefix.data());
  if (n > kMaxHeaderBytes) return NotAModel(prefix, "a header of " + std::to_string(n) + " bytes is larger than 16 MiB");
  if (n < 2 || prefix[8] != '{') return NotAModel(prefix, "no header");
  if (n > file_bytes - 16) {
    return ModelFormat("the file is cut short: " + std::to_string(file_bytes) + " bytes, its header alone needs " + std::to_string(n + 16));
  }
  if ((8 + n) % kAlignment != 0)
    return ModelFormat("not a pyqinfer model: the header's end is no multiple of 64 (a plain safetensors file?)");
  return {};
}

Result<Container> ReadContainer(Span<const uint8_t> file) {
  PQI_RETURN_IF_ERROR(CheckPrelude({file.data(), std::min<size_t>(file.size(), kPreludeBytes)}, file.size()));
  const size_t header_end = 8 + static_cast<size_t>(LoadU64(file.data()));
  std::string_view text(reinterpret_cast<const char*>(file.data()) + 8, header_end - 8);
  if (!HashMatches({file.data(), header_end}, LoadU64(file.data() + file.size() - 8))) {
    if (text.find(R"("format":"pyqinfer")") == std::string_view::npos) {
      return ModelFormat("not a pyqinfer model: a safetensors file without pyqinfer's metadata");
    }
    return Integrity("the header's checksum does not match: the file is damaged or cut short");
  }
  text = text.substr(0, text.find_last_not_of(' ') + 1);
  PQI_ASSIGN_OR_RETURN(const JsonDocument document, JsonDocument::Parse(text, "header"));
  const JsonRef header = document.root();
  if (header.size() > kMaxTensors + 1) return ModelFormat("header: more than 65,536 tensors");

  Container out;
  Metadata metadata;
  PQI_RETURN_IF_ERROR(ReadMetadata(header, &metadata));
  bool has_header_hash = false;
  PQI_RETURN_IF_ERROR(ReadTensors(header, {file.data() + header_end, file.size() - header_end}, &out, &has_header_hash));
  PQI_RETURN_IF_ERROR(AssignHashes(metadata.hashes, &out));
  out.producer = std::move(metadata.producer);
  out.features = std::move(metadata.features);
  out.graph = std::move(metadata.graph);
  return out;
}

Status CheckTensorHashes(const Container& container) {
  for (const std::vector<Tensor>* list : {&container.tensors, &container.padding}) {
    for (const Tensor& tensor : *list) {
      if (!HashMatches(tensor.bytes, tensor.hash))
        return Integrity("tensor " + Quoted(tensor.name) + ": checksum does not match, the file is damaged");
    }
  }
  for (const Tensor& tensor : container.padding) {
    if (std::any_of(tensor.bytes.begin(), tensor.bytes.end(), [](uint8_t b) { return b != 0; })) {
      return ModelFormat("tensor " + Quoted(tensor.name) + ": padding is not zero");
    }
  }
  return {};
}

}  // namespace pqi
