#include "tools/npy.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "base/checked.h"
#include "base/text.h"

namespace pqi::tools {
namespace {

constexpr char kMagic[] = "\x93NUMPY";
constexpr size_t kMagicSize = 6;

struct Closer {
  void operator()(std::FILE* f) const { std::fclose(f); }
};
using File = std::unique_ptr<std::FILE, Closer>;

Status Fail(const std::string& path, const std::string& what) { return InvalidArgument(Quoted(path) + ": " + what); }

// Gives the text after 'key': in the header's dictionary, or an empty one.
std::string Field(const std::string& header, const std::string& key) {
  const size_t at = header.find("'" + key + "':");
  if (at == std::string::npos) return "";
  const size_t begin = header.find_first_not_of(' ', at + key.size() + 3);
  return begin == std::string::npos ? "" : header.substr(begin);
}

// Reads a shape as Python writes it: "(1, 3, 8)", "(3,)", "()".
bool ParseShape(const std::string& text, ConcreteShape* shape) {
  if (text.empty() || text[0] != '(') return false;
  const size_t end = text.find(')');
  if (end == std::string::npos) return false;
  int64_t number = -1;
  for (size_t i = 1; i <= end; ++i) {
    const char c = text[i];
    if (c >= '0' && c <= '9') {
      number = (number < 0 ? 0 : number) * 10 + (c - '0');
      if (number > INT32_MAX) return false;
    } else if (c == ',' || c == ')') {
      if (number >= 0) shape->push_back(number);
      number = -1;
    } else if (c != ' ') {
      return false;
    }
  }
  return shape->size() <= 8;
}

}  // namespace

Result<NpyArray> ReadNpy(const std::string& path) {
  const File file(std::fopen(path.c_str(), "rbe"));
  if (!file) return IoError("cannot open " + Quoted(path) + ": " + std::strerror(errno), errno);
  uint8_t start[8], length[4] = {};
  if (std::fread(start, 1, 8, file.get()) != 8 || std::memcmp(start, kMagic, kMagicSize) != 0 || start[6] < 1 || start[6] > 3) {
    return Fail(path, "not a .npy file");
  }
  const size_t length_size = start[6] == 1 ? 2 : 4;
  if (std::fread(length, 1, length_size, file.get()) != length_size) return Fail(path, "the header is cut off");
  const size_t header_size = length[0] | length[1] << 8 | length[2] << 16 | static_cast<size_t>(length[3]) << 24;
  if (header_size > (1 << 16)) return Fail(path, "the header is too long");
  std::string header(header_size, ' ');
  if (std::fread(header.data(), 1, header_size, file.get()) != header_size) return Fail(path, "the header is cut off");

  NpyArray array;
  const std::string descr = Field(header, "descr").substr(0, 5);
  if (descr != "'<f4'" && descr != "'|u1'" && descr != "'<i4'") {
    return Fail(path, "expected float32, uint8 or int32 ('<f4', '|u1', '<i4'), got " + descr);
  }
  array.dtype = descr == "'<f4'" ? DType::kF32 : descr == "'|u1'" ? DType::kU8 : DType::kI32;
  if (Field(header, "fortran_order").rfind("False", 0) != 0)
    return Fail(path, "Fortran order is not read: save numpy.ascontiguousarray(x)");
  if (!ParseShape(Field(header, "shape"), &array.shape)) return Fail(path, "the shape cannot be read");
  uint64_t bytes = 0;
  if (!CheckedByteSize(array.shape, DTypeSize(array.dtype), uint64_t{1} << 36, &bytes)) return Fail(path, "the array is too large");
  array.bytes.resize(bytes);
  if (std::fread(array.bytes.data(), 1, bytes, file.get()) != bytes || std::fgetc(file.get()) != EOF) {
    return Fail(path, "shape " + DimsText(array.shape) + " takes " + std::to_string(bytes) + " bytes, the file has another number");
  }
  return array;
}

Status WriteNpy(const std::string& path, DType dtype, const ConcreteShape& shape, Span<const uint8_t> bytes) {
  std::string header = std::string("{'descr': '") +
                       (dtype == DType::kF32  ? "<f4"
                        : dtype == DType::kU8 ? "|u1"
                                              : "<i4") +
                       "', 'fortran_order': False, 'shape': (";
  for (int64_t d : shape) header += std::to_string(d) + ", ";
  header += "), }";
  while ((10 + header.size() + 1) % 64 != 0) header += ' ';
  header += '\n';
  std::FILE* file = std::fopen(path.c_str(), "wbe");
  if (!file) return IoError("cannot write " + Quoted(path) + ": " + std::strerror(errno), errno);
  const uint8_t length[] = {static_cast<uint8_t>(header.size() & 255), static_cast<uint8_t>(header.size() >> 8)};
  bool good = std::fwrite(kMagic, 1, kMagicSize, file) == kMagicSize && std::fwrite("\x01\x00", 1, 2, file) == 2 &&
              std::fwrite(length, 1, 2, file) == 2 && std::fwrite(header.data(), 1, header.size(), file) == header.size() &&
              std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size();
  good = std::fclose(file) == 0 && good;  // a full disk shows only when the buffer is flushed
  return good ? Status() : IoError("cannot write " + Quoted(path) + ": " + std::strerror(errno), errno);
}

}  // namespace pqi::tools
