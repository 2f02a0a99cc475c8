// Surgery on files for tests: a valid file around a changed header, so that a test reaches the rule it is about.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "base/aligned.h"
#include "base/span.h"
#include "format/xxh64.h"

namespace pqi::test {

using Bytes = std::vector<uint8_t>;

inline Bytes ToBytes(Span<const uint8_t> bytes) { return {bytes.begin(), bytes.end()}; }
inline Bytes ToBytes(const std::string& text) { return {text.begin(), text.end()}; }
inline AlignedBuffer<uint8_t> ToBuffer(const Bytes& bytes) { return AlignedBuffer<uint8_t>::CopyOf(bytes); }

inline size_t HeaderEnd(const Bytes& file) {
  uint64_t n;
  std::memcpy(&n, file.data(), 8);
  return 8 + static_cast<size_t>(n);
}

// Gives the header's JSON without the spaces at its end.
inline std::string HeaderText(const Bytes& file) {
  const std::string header(file.begin() + 8, file.begin() + static_cast<std::ptrdiff_t>(HeaderEnd(file)));
  return header.substr(0, header.find_last_not_of(' ') + 1);
}

// Gives everything behind the header.
inline Bytes DataPart(const Bytes& file) { return {file.begin() + static_cast<std::ptrdiff_t>(HeaderEnd(file)), file.end()}; }

inline void PutHeaderHash(Bytes* file, size_t header_end) {
  const uint64_t hash = Xxh64({file->data(), header_end});
  if (file->size() >= header_end + 8) std::memcpy(file->data() + file->size() - 8, &hash, 8);
}

// Makes a file with this header, padded and hashed, and this data (whose last 8 bytes become the hash).
inline Bytes FileAround(std::string header, const Bytes& data) {
  while ((8 + header.size()) % kAlignment != 0) header += ' ';
  const uint64_t n = header.size();
  Bytes file(8);
  std::memcpy(file.data(), &n, 8);
  file.insert(file.end(), header.begin(), header.end());
  file.insert(file.end(), data.begin(), data.end());
  PutHeaderHash(&file, 8 + header.size());
  return file;
}

// Gives `text` with the only occurrence of `from` replaced; "" if there is not exactly one, which no test can mistake for success.
inline std::string Replaced(const std::string& text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  if (at == std::string::npos || text.find(from, at + 1) != std::string::npos) return "";
  return text.substr(0, at) + to + text.substr(at + from.size());
}

}  // namespace pqi::test
