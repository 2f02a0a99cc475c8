#include "format/foreign.h"

#include <string_view>

namespace pqi {

std::string DescribeForeignFile(Span<const uint8_t> prefix) {
  using namespace std::string_view_literals;
  struct Magic {
    size_t offset;
    std::string_view bytes;
    const char* description;
  };
  static constexpr Magic kMagics[] = {
      {0, "version https://git-lfs"sv, "a Git LFS pointer, not the file itself: run `git lfs pull`"},
      {0, "PK\x03\x04"sv, "a zip archive (.pt, .pt2, .npz): load it in torch and call pyqinfer.convert"},
      {0, "GGUF"sv, "a GGUF file"},
      {4, "TFL3"sv, "a TensorFlow Lite file"},
      {0,
       "\x7F"
       "ELF"sv,
       "an ELF binary"},
      {0, "\x89PNG"sv, "a PNG picture"},
      {0, "\x1F\x8B"sv, "a gzip archive: unpack it first"},
      {0, "\x28\xB5\x2F\xFD"sv, "a zstd archive: unpack it first"},
      {0, "\x93NUMPY"sv, "a NumPy array"},
      {0, "\x80\x02"sv, "a Python pickle (.pt, .pth, .pkl): load it in torch and call pyqinfer.convert"},
      {0, "\x80\x03"sv, "a Python pickle (.pkl)"},
      {0, "\x80\x04"sv, "a Python pickle (.pkl)"},
      {0, "\x80\x05"sv, "a Python pickle (.pkl)"},
      {0, "<!DOCTYPE"sv, "an HTML page"},
      {0, "<html"sv, "an HTML page"},
      {0, "{"sv, "JSON text"},
  };
  const std::string_view text(reinterpret_cast<const char*>(prefix.data()), prefix.size());
  for (const Magic& magic : kMagics) {
    if (text.size() >= magic.offset && text.substr(magic.offset, magic.bytes.size()) == magic.bytes) return magic.description;
  }
  // ONNX is a protobuf without a magic: field 1 (ir_version, a small varint), then field 2 (producer_name) or 8 (opset_import).
  if (text.size() >= 3 && text[0] == 0x08 && text[1] > 0 && text[1] < 32 && (text[2] == 0x12 || text[2] == 0x42)) return "an ONNX file";
  return "";
}

}  // namespace pqi
