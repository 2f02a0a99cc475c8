// The JSON subset of docs/format.md: objects, arrays, strings and unsigned integers, read under limits into one flat array.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace pqi {

enum class JsonKind : uint8_t { kObject, kArray, kString, kNumber };
const char* JsonKindName(JsonKind kind);  // for messages: "an object", "a string"

inline constexpr size_t kJsonMaxDepth = 16;
inline constexpr size_t kJsonMaxTokens = 1'000'000;  // every brace, bracket, key and value counts one

class JsonDocument;

// One value of a document; valid as long as the document.
class JsonRef {
 public:
  JsonKind kind() const;
  uint64_t number() const;        // for kNumber only
  std::string_view text() const;  // for kString only
  std::string_view key() const;   // the name of a member of an object, empty for any other value
  size_t size() const;            // how many members or elements the value has

  // Iteration goes over elements, or members of an object, in the order of the text.
  class Iterator {
   public:
    JsonRef operator*() const { return {doc_, index_}; }
    Iterator& operator++();
    bool operator!=(const Iterator& other) const { return index_ != other.index_; }

   private:
    friend class JsonRef;
    Iterator(const JsonDocument* doc, uint32_t index) : doc_(doc), index_(index) {}
    const JsonDocument* doc_;
    uint32_t index_;
  };
  Iterator begin() const;
  Iterator end() const;

  // Finds the member named `key` by scanning, which suits objects of a few members.
  std::optional<JsonRef> Find(std::string_view key) const;

 private:
  friend class JsonDocument;
  JsonRef(const JsonDocument* doc, uint32_t index) : doc_(doc), index_(index) {}
  const JsonDocument* doc_;
  uint32_t index_;
};

class JsonDocument {
 public:
  // `what` names the text in messages. kModelFormat for anything outside the subset: no byte before '{' or after the last '}', UTF-8
  // without lone surrogates or overlong forms, no duplicate keys, no sign, fraction, exponent, true, false or null, numbers < 2^63, and the
  // limits above.
  static Result<JsonDocument> Parse(std::string_view text, const std::string& what);

  JsonDocument(JsonDocument&&) = default;
  JsonDocument& operator=(JsonDocument&&) = default;
  JsonRef root() const { return {this, 0}; }

 private:
  friend class JsonRef;
  friend class JsonBuilder;
  struct Entry {  // in pre-order: a container's children follow it
    JsonKind kind;
    uint32_t key_offset, key_size;
    uint32_t count;    // how many members or elements, or bytes of a string
    uint32_t next;     // index of the entry behind this value and all it holds
    uint64_t payload;  // the number, or the offset of a string
  };
  JsonDocument() = default;
  std::vector<Entry> entries_;
  std::string pool_;  // all strings and keys, decoded
};

}  // namespace pqi
