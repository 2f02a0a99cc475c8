// The container of docs/format.md: a strict profile of safetensors. Bytes to metadata and tensors, and back.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/aligned.h"
#include "base/span.h"
#include "base/status.h"

namespace pqi {

inline constexpr uint64_t kMaxHeaderBytes = uint64_t{16} << 20;
inline constexpr size_t kMaxTensors = 65'536;
inline constexpr size_t kMaxTensorRank = 8;
inline constexpr uint64_t kMaxTensorDim = (uint64_t{1} << 31) - 1;
inline constexpr uint64_t kMaxTensorBytes = uint64_t{1} << 40;
inline constexpr size_t kPreludeBytes = 72;  // what CheckPrelude looks at, and the smallest file

// The features of docs/format.md, which a file lists under `requires`.
inline constexpr const char* kTritRansFeature = "trit_rans";
inline constexpr const char* kConditionsFeature = "conditions";

enum class StoredType : uint8_t { kI8, kU8, kI32, kF32 };
const char* StoredTypeName(StoredType type);
uint64_t StoredTypeSize(StoredType type);

struct Tensor {
  std::string name;
  StoredType type = StoredType::kU8;
  std::vector<int64_t> shape;
  Span<const uint8_t> bytes;
  uint64_t hash = 0;  // the XXH64 of `bytes` that the file claims
};

struct Container {
  std::string producer;
  std::vector<std::string> features;  // those that the file requires, all of them known
  std::string graph;                  // the graph's JSON text
  std::vector<Tensor> tensors;        // all but padding and ~hdr, in the file's order
  std::vector<Tensor> padding;        // the tensors ~p0, ~p1, ...

  bool Requires(std::string_view feature) const { return std::find(features.begin(), features.end(), feature) != features.end(); }
};

// Whether a file that begins with `prefix` (its first kPreludeBytes, or all of a shorter file) and has `file_bytes` in all can be a model:
// kModelFormat says what it is instead where that is known (a .pt archive, a Git LFS pointer, ...).
Status CheckPrelude(Span<const uint8_t> prefix, uint64_t file_bytes);

// Holds header and layout to every rule of docs/format.md up to the graph text; reads no tensor's contents. The result views `file`, which
// must be private to this process: nothing is read twice with the first reading trusted.
Result<Container> ReadContainer(Span<const uint8_t> file);

// Compares the tensors' hashes, then looks for anything but zeros in the padding. kIntegrity names the tensor.
Status CheckTensorHashes(const Container& container);

// Writes what ReadContainer reads: adds padding, hashes and ~hdr (`hash` of the tensors is ignored). Equal input gives equal bytes. Names,
// shapes and texts must obey docs/format.md (valid UTF-8 included); `features` is the comma-separated list of those that the file needs.
// kInvalidArgument if the header would be too long.
Result<AlignedBuffer<uint8_t>> WriteContainer(std::string_view producer, std::string_view features, std::string_view graph,
                                              Span<const Tensor> tensors);

// Gives `text` as a JSON string, quotes included, in its shortest form, the one escaping that canonical text uses.
void AppendJsonString(std::string* out, std::string_view text);

}  // namespace pqi
