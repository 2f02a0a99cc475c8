// Members of a JSON object with a fixed set of keys.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>

#include "base/status.h"
#include "format/json.h"

namespace pqi {

// In all of these `where` names the place for messages, as in "values[3]".

Status CheckKind(JsonRef value, JsonKind kind, const std::string& where);

// Refuses what is not an object with all of `required` and no key outside `required` and `optional`.
Status CheckKeys(JsonRef value, const std::string& where, std::initializer_list<const char*> required,
                 std::initializer_list<const char*> optional = {});

// Gives the member `key`, which CheckKeys has found, if it is of this kind.
Result<JsonRef> Member(JsonRef object, const char* key, JsonKind kind, const std::string& where);

// Gives a text that is a name: 1..256 bytes without control characters.
Status CheckName(std::string_view name, const std::string& where);

}  // namespace pqi
