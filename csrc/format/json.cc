#include "format/json.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace pqi {

// Receives nlohmann's SAX events. nlohmann checks the grammar and UTF-8; this class checks everything the subset takes away.
class JsonBuilder {
 public:
  using number_integer_t = nlohmann::json::number_integer_t;
  using number_unsigned_t = nlohmann::json::number_unsigned_t;
  using number_float_t = nlohmann::json::number_float_t;
  using string_t = nlohmann::json::string_t;
  using binary_t = nlohmann::json::binary_t;

  explicit JsonBuilder(JsonDocument* doc) : doc_(*doc) {}
  const std::string& error() const { return error_; }

  bool null() { return Fail("null is not allowed"); }
  bool boolean(bool) { return Fail("true and false are not allowed"); }
  bool number_integer(number_integer_t) { return Fail("numbers with a sign are not allowed"); }
  bool number_float(number_float_t, const string_t&) { return Fail("only integers below 2^63 are allowed"); }
  bool binary(binary_t&) { return Fail("binary data is not allowed"); }
  bool number_unsigned(number_unsigned_t value) {
    if (value >> 63 != 0) return Fail("only integers below 2^63 are allowed");
    return Add(JsonKind::kNumber, 0, value);
  }
  bool string(string_t& text) {
    const uint64_t offset = doc_.pool_.size();
    doc_.pool_ += text;
    return Add(JsonKind::kString, static_cast<uint32_t>(text.size()), offset);
  }
  bool key(string_t& text) {
    if (!CountToken()) return false;
    key_offset_ = static_cast<uint32_t>(doc_.pool_.size());
    key_size_ = static_cast<uint32_t>(text.size());
    doc_.pool_ += text;
    return true;
  }
  bool start_object(size_t) { return Open(JsonKind::kObject); }
  bool start_array(size_t) { return Open(JsonKind::kArray); }
  bool end_object() { return KeysAreUnique() && Close(); }
  bool end_array() { return Close(); }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) {
    return Fail("not valid JSON at byte " + std::to_string(position));  // nlohmann's own text repeats bytes of the file
  }

 private:
  using Entry = JsonDocument::Entry;

  bool Fail(std::string message) {
    if (error_.empty()) error_ = std::move(message);
    return false;
  }

  bool CountToken() { return ++tokens_ <= kJsonMaxTokens || Fail("more than " + std::to_string(kJsonMaxTokens) + " tokens"); }

  bool Add(JsonKind kind, uint32_t count, uint64_t payload) {
    if (!CountToken()) return false;
    if (!open_.empty()) ++doc_.entries_[open_.back()].count;
    const uint32_t index = static_cast<uint32_t>(doc_.entries_.size());
    doc_.entries_.push_back({kind, key_offset_, key_size_, count, index + 1, payload});
    key_offset_ = key_size_ = 0;
    return true;
  }

  bool Open(JsonKind kind) {
    if (open_.size() == kJsonMaxDepth) return Fail("nested deeper than " + std::to_string(kJsonMaxDepth));
    if (!Add(kind, 0, 0)) return false;
    open_.push_back(static_cast<uint32_t>(doc_.entries_.size() - 1));
    return true;
  }

  bool Close() {
    doc_.entries_[open_.back()].next = static_cast<uint32_t>(doc_.entries_.size());
    open_.pop_back();
    return CountToken();
  }

  bool KeysAreUnique() {
    keys_.clear();
    const std::string_view pool = doc_.pool_;
    const uint32_t end = static_cast<uint32_t>(doc_.entries_.size());
    for (uint32_t i = open_.back() + 1; i < end; i = doc_.entries_[i].next) {
      keys_.push_back(pool.substr(doc_.entries_[i].key_offset, doc_.entries_[i].key_size));
    }
    std::sort(keys_.begin(), keys_.end());
    return std::adjacent_find(keys_.begin(), keys_.end()) == keys_.end() || Fail("a key appears twice in one object");
  }

  JsonDocument& doc_;
  std::vector<uint32_t> open_;  // entries of containers that are not closed yet, outermost first
  uint32_t key_offset_ = 0, key_size_ = 0;
  size_t tokens_ = 0;
  std::vector<std::string_view> keys_;
  std::string error_;
};

Result<JsonDocument> JsonDocument::Parse(std::string_view text, const std::string& what) {
  // nlohmann skips a byte order mark and white space, and takes NUL for the end of the text.
  if (text.size() < 2 || text.front() != '{' || text.back() != '}') return ModelFormat(what + ": not one JSON object");
  if (text.find('\0') != std::string_view::npos) return ModelFormat(what + ": NUL byte");
  if (text.size() > UINT32_MAX) return ModelFormat(what + ": " + std::to_string(text.size()) + " bytes is too long");
  JsonDocument doc;
  JsonBuilder builder(&doc);
  if (!nlohmann::json::sax_parse(text.begin(), text.end(), &builder)) return ModelFormat(what + ": " + builder.error());
  return doc;
}

const char* JsonKindName(JsonKind kind) {
  switch (kind) {
    case JsonKind::kObject:
      return "an object";
    case JsonKind::kArray:
      return "a list";
    case JsonKind::kString:
      return "a string";
    case JsonKind::kNumber:
      break;
  }
  return "a number";
}

JsonKind JsonRef::kind() const { return doc_->entries_[index_].kind; }
uint64_t JsonRef::number() const { return doc_->entries_[index_].payload; }
std::string_view JsonRef::text() const {
  const JsonDocument::Entry& e = doc_->entries_[index_];
  return std::string_view(doc_->pool_).substr(e.payload, e.count);
}
std::string_view JsonRef::key() const {
  const JsonDocument::Entry& e = doc_->entries_[index_];
  return std::string_view(doc_->pool_).substr(e.key_offset, e.key_size);
}
size_t JsonRef::size() const { return doc_->entries_[index_].count; }
JsonRef::Iterator JsonRef::begin() const { return {doc_, index_ + 1}; }
JsonRef::Iterator JsonRef::end() const { return {doc_, doc_->entries_[index_].next}; }
JsonRef::Iterator& JsonRef::Iterator::operator++() {
  index_ = doc_->entries_[index_].next;
  return *this;
}

std::optional<JsonRef> JsonRef::Find(std::string_view wanted) const {
  for (JsonRef member : *this) {
    if (member.key() == wanted) return member;
  }
  return std::nullopt;
}

}  // namespace pqi
