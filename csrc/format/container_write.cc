#include <cstring>

#include "base/checked.h"
#include "format/container.h"
#include "format/header.h"
#include "format/xxh64.h"

namespace pqi {
namespace {

void AppendHash(std::string* out, uint64_t hash) {
  for (int shift = 60; shift >= 0; shift -= 4) *out += "0123456789abcdef"[hash >> shift & 15];
}

void AppendTensor(std::string* out, std::string_view name, StoredType type, Span<const int64_t> shape, uint64_t begin, uint64_t end) {
  *out += ',';
  AppendJsonString(out, name);
  *out += R"(:{"dtype":")" + std::string(StoredTypeName(type)) + R"(","shape":[)";
  for (size_t i = 0; i < shape.size(); ++i) *out += (i == 0 ? "" : ",") + std::to_string(shape[i]);
  *out += R"(],"data_offsets":[)" + std::to_string(begin) + "," + std::to_string(end) + "]}";
}

}  // namespace

const char* StoredTypeName(StoredType type) {
  switch (type) {
    case StoredType::kI8:
      return "I8";
    case StoredType::kU8:
      return "U8";
    case StoredType::kI32:
      return "I32";
    case StoredType::kF32:
      break;
  }
  return "F32";
}

uint64_t StoredTypeSize(StoredType type) { return type == StoredType::kI32 || type == StoredType::kF32 ? 4 : 1; }

void AppendJsonString(std::string* out, std::string_view text) {
  *out += '"';
  for (char c : text) {
    const unsigned char byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      *out += '\\';
      *out += c;
    } else if (byte < 0x20) {
      *out += "\\u00";
      *out += "01"[byte >> 4];
      *out += "0123456789abcdef"[byte & 15];
    } else {
      *out += c;
    }
  }
  *out += '"';
}

Result<AlignedBuffer<uint8_t>> WriteContainer(std::string_view producer, std::string_view features, std::string_view graph,
                                              Span<const Tensor> tensors) {
  static constexpr uint8_t kZeros[kAlignment] = {};
  std::string entries, hashes;
  uint64_t end = 0;
  size_t paddings = 0;
  for (const Tensor& tensor : tensors) {
    AppendTensor(&entries, tensor.name, tensor.type, tensor.shape, end, end + tensor.bytes.size());
    AppendHash(&hashes, Xxh64(tensor.bytes));
    end += tensor.bytes.size();
    const uint64_t gap = (kAlignment - end % kAlignment) % kAlignment;
    if (gap == 0) continue;
    const int64_t gap_shape[] = {static_cast<int64_t>(gap)};
    AppendTensor(&entries, "~p" + std::to_string(paddings++), StoredType::kU8, {gap_shape, 1}, end, end + gap);
    AppendHash(&hashes, Xxh64({kZeros, static_cast<size_t>(gap)}));
    end += gap;
  }
  const int64_t hash_shape[] = {8};
  AppendTensor(&entries, kHeaderHashName, StoredType::kU8, {hash_shape, 1}, end, end + 8);

  std::string header = R"({"__metadata__":{"format":")" + std::string(kFormatName) + R"(","format_version":")" +
                       (features.empty() ? kFirstVersion : kVersionOfFeatures) + R"(","producer":)";
  AppendJsonString(&header, producer);
  header += R"(,"requires":)";
  AppendJsonString(&header, features);
  header += R"(,"graph":)";
  AppendJsonString(&header, graph);
  header += R"(,"hashes":")" + hashes + "\"}" + entries + "}";
  header.append((kAlignment - (8 + header.size()) % kAlignment) % kAlignment, ' ');
  if (header.size() > kMaxHeaderBytes)
    return InvalidArgument("the model's header would take " + std::to_string(header.size()) + " bytes, 16 MiB are allowed");

  const size_t data_start = 8 + header.size();
  AlignedBuffer<uint8_t> file(data_start + static_cast<size_t>(end) + 8);
  const uint64_t header_size = header.size();
  std::memcpy(file.data(), &header_size, 8);
  std::memcpy(file.data() + 8, header.data(), header.size());
  uint64_t at = data_start;
  for (const Tensor& tensor : tensors) {
    std::memcpy(file.data() + at, tensor.bytes.data(), tensor.bytes.size());
    at += tensor.bytes.size();
    at += (kAlignment - at % kAlignment) % kAlignment;
  }
  const uint64_t hash = Xxh64({file.data(), data_start});
  std::memcpy(file.data() + at, &hash, 8);
  return file;
}

}  // namespace pqi
