#include "format/fields.h"

#include <algorithm>

#include "base/text.h"

namespace pqi {

Status CheckKind(JsonRef value, JsonKind kind, const std::string& where) {
  if (value.kind() == kind) return {};
  return ModelFormat(where + ": expected " + JsonKindName(kind) + ", got " + JsonKindName(value.kind()));
}

Status CheckKeys(JsonRef value, const std::string& where, std::initializer_list<const char*> required,
                 std::initializer_list<const char*> optional) {
  PQI_RETURN_IF_ERROR(CheckKind(value, JsonKind::kObject, where));
  for (JsonRef member : value) {
    const auto is_key = [&](const char* key) { return member.key() == key; };
    if (std::none_of(required.begin(), required.end(), is_key) && std::none_of(optional.begin(), optional.end(), is_key)) {
      return ModelFormat(where + ": unknown key " + Quoted(member.key()));
    }
  }
  for (const char* key : required) {
    if (!value.Find(key)) return ModelFormat(where + ": missing key " + Quoted(key));
  }
  return {};
}

Result<JsonRef> Member(JsonRef object, const char* key, JsonKind kind, const std::string& where) {
  const JsonRef member = *object.Find(key);
  PQI_RETURN_IF_ERROR(CheckKind(member, kind, where + "." + key));
  return member;
}

Status CheckName(std::string_view name, const std::string& where) {
  if (name.empty() || name.size() > 256) return ModelFormat(where + ": a name has 1 to 256 bytes, got " + std::to_string(name.size()));
  for (size_t i = 0; i < name.size(); ++i) {
    if (ControlLength(name.substr(i)) != 0) return ModelFormat(where + ": control character in name " + Quoted(name));
  }
  return {};
}

}  // namespace pqi
