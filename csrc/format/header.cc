#include "format/header.h"

#include "base/text.h"
#include "format/fields.h"

namespace pqi {
namespace {

constexpr size_t kHashDigits = 16;

// Takes a number below 10^6 without leading zeros from the front of *text.
bool TakeNumber(std::string_view* text, uint32_t* out) {
  size_t n = 0;
  *out = 0;
  while (n < text->size() && n < 6 && (*text)[n] >= '0' && (*text)[n] <= '9') *out = *out * 10 + static_cast<uint32_t>((*text)[n++] - '0');
  if (n == 0 || (n > 1 && text->front() == '0')) return false;
  text->remove_prefix(n);
  return true;
}

Status CheckVersion(std::string_view version) {
  std::string_view rest = version;
  uint32_t major = 0, minor = 0;
  const bool has_major = TakeNumber(&rest, &major) && !rest.empty() && rest.front() == '.';
  if (has_major) rest.remove_prefix(1);
  if (!has_major || !TakeNumber(&rest, &minor) || !rest.empty() || major == 0) {
    return ModelFormat("format_version " + Quoted(version) + " is not a version such as '1.0'");
  }
  if (major > 1) return Unsupported("format_version " + Quoted(version) + ": this build reads version 1; a newer pyqinfer is needed");
  return {};
}

// Splits the list of required features; kUnsupported names those that this build does not know.
Status ReadFeatures(std::string_view list, std::vector<std::string>* features) {
  if (list.empty()) return {};
  std::string unknown;
  for (std::string_view rest = list;;) {
    const size_t comma = rest.find(',');
    const std::string_view feature = rest.substr(0, comma);
    if (feature.empty()) return ModelFormat("requires " + Quoted(list) + " is not a comma-separated list");
    features->emplace_back(feature);
    if (feature != kTritRansFeature && feature != kConditionsFeature) unknown += (unknown.empty() ? "" : ",") + std::string(feature);
    if (comma == std::string_view::npos) break;
    rest.remove_prefix(comma + 1);
  }
  if (unknown.empty()) return {};
  return Unsupported("the file needs features that this build lacks: " + Quoted(unknown) + "; a newer pyqinfer is needed");
}

bool ParseHash(std::string_view digits, uint64_t* out) {
  *out = 0;
  for (char c : digits) {
    const bool decimal = c >= '0' && c <= '9';
    if (!decimal && (c < 'a' || c > 'f')) return false;
    *out = *out << 4 | static_cast<uint64_t>(decimal ? c - '0' : c - 'a' + 10);
  }
  return true;
}

}  // namespace

Status ReadMetadata(JsonRef header, Metadata* out) {
  if (header.size() == 0 || (*header.begin()).key() != "__metadata__") return ModelFormat("header: '__metadata__' must come first");
  const JsonRef metadata = *header.begin();
  const std::string where = "__metadata__";
  PQI_RETURN_IF_ERROR(CheckKind(metadata, JsonKind::kObject, where));
  for (JsonRef value : metadata) PQI_RETURN_IF_ERROR(CheckKind(value, JsonKind::kString, where + "." + Quoted(value.key())));
  const auto format = metadata.Find("format");
  if (!format || format->text() != kFormatName) return ModelFormat("not a pyqinfer model: the metadata's format is not 'pyqinfer'");
  // Version and features come before the rules that a newer version may change.
  const auto version = metadata.Find("format_version");
  if (!version) return ModelFormat(where + ": missing key 'format_version'");
  PQI_RETURN_IF_ERROR(CheckVersion(version->text()));
  if (const auto features = metadata.Find("requires")) PQI_RETURN_IF_ERROR(ReadFeatures(features->text(), &out->features));
  PQI_RETURN_IF_ERROR(CheckKeys(metadata, where, {"format", "format_version", "producer", "requires", "graph", "hashes"}));
  out->producer = std::string(metadata.Find("producer")->text());
  out->graph = std::string(metadata.Find("graph")->text());
  out->hashes = std::string(metadata.Find("hashes")->text());
  return {};
}

Status AssignHashes(const std::string& hashes, Container* container) {
  const size_t count = container->tensors.size() + container->padding.size();
  if (hashes.size() != count * kHashDigits) {
    return ModelFormat("__metadata__.hashes: expected " + std::to_string(count * kHashDigits) + " digits for " + std::to_string(count) +
                       " tensors, got " + std::to_string(hashes.size()));
  }
  auto tensor = container->tensors.begin();
  auto padding = container->padding.begin();
  for (size_t i = 0; i < count; ++i) {
    const bool is_tensor =
        padding == container->padding.end() || (tensor != container->tensors.end() && tensor->bytes.data() < padding->bytes.data());
    Tensor& next = is_tensor ? *tensor++ : *padding++;
    if (!ParseHash(std::string_view(hashes).substr(i * kHashDigits, kHashDigits), &next.hash)) {
      return ModelFormat("__metadata__.hashes: not a lower-case hexadecimal number for tensor " + Quoted(next.name));
    }
  }
  return {};
}

}  // namespace pqi
