// The container's rules, one row each; F numbers are those of the list of bad inputs that the test plan works through.
#include "format/container.h"

#include <gtest/gtest.h>

#include <functional>

#include "tests/format/test_files.h"

namespace pqi::test {
namespace {

// Tensors "a" (U8[3], then padding ~p0), "b" (F32[2,16], 128 bytes), "c" (I32[1], then ~p1).
Bytes SmallFile() {
  static const Bytes a = {1, 2, 3};
  static const Bytes b(128, 0x40);
  static const Bytes c = {9, 0, 0, 0};
  const std::vector<Tensor> tensors = {
      {"a", StoredType::kU8, {3}, a}, {"b", StoredType::kF32, {2, 16}, b}, {"c", StoredType::kI32, {1}, c}};
  const Result<AlignedBuffer<uint8_t>> file = WriteContainer("test", "", R"({"nodes":[]})", tensors);
  return ToBytes(file.value().span());
}

// Reads structure, then hashes, in the loader's order.
Status Read(const Bytes& file) {
  const AlignedBuffer<uint8_t> own = ToBuffer(file);
  const Result<Container> container = ReadContainer(own.span());
  return container.ok() ? CheckTensorHashes(container.value()) : container.status();
}

TEST(Container, RoundTrips) {
  const Bytes file = SmallFile();
  const Result<Container> read = ReadContainer(file);
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_TRUE(CheckTensorHashes(read.value()).ok());
  EXPECT_EQ(read.value().producer, "test");
  EXPECT_EQ(read.value().graph, R"({"nodes":[]})");
  ASSERT_EQ(read.value().tensors.size(), 3u);
  EXPECT_EQ(read.value().padding.size(), 2u);
  EXPECT_EQ(read.value().tensors[0].name, "a");
  EXPECT_EQ(ToBytes(read.value().tensors[0].bytes), (Bytes{1, 2, 3}));
  EXPECT_EQ(read.value().tensors[1].shape, (std::vector<int64_t>{2, 16}));
  EXPECT_EQ(read.value().tensors[2].type, StoredType::kI32);
  for (const Tensor& tensor : read.value().tensors) EXPECT_EQ((tensor.bytes.data() - file.data()) % 64, 0) << tensor.name;
}

TEST(Container, WritesEqualBytesForEqualInput) { EXPECT_EQ(SmallFile(), SmallFile()); }

TEST(Container, EscapesTextSoThatItReadsBackEqual) {
  const std::string graph = "{\"a\":\"\\u0001 \\\\ é\n\"}";
  const Bytes byte = {1};
  const std::vector<Tensor> tensors = {{"weird \"name\" \\ é", StoredType::kU8, {1}, byte}};
  const Result<AlignedBuffer<uint8_t>> file = WriteContainer("tab\there", "", graph, tensors);
  const Result<Container> read = ReadContainer(file.value().span());
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_EQ(read.value().graph, graph);
  EXPECT_EQ(read.value().producer, "tab\there");
  EXPECT_EQ(read.value().tensors[0].name, tensors[0].name);
}

TEST(Container, AcceptsAFileWithoutTensors) {
  const Result<AlignedBuffer<uint8_t>> file = WriteContainer("", "", "{}", {});
  EXPECT_TRUE(Read(ToBytes(file.value().span())).ok());
}

struct HeaderRow {
  const char* name;
  const char* message;  // a part of the error's text, which shows that the right rule refused
  const char* from;     // the text replaced in the header's JSON, which is then padded and hashed again
  std::string to;
  Code code = Code::kModelFormat;
};

void PrintTo(const HeaderRow& row, std::ostream* out) { *out << row.name; }

class HeaderTest : public ::testing::TestWithParam<HeaderRow> {};

TEST_P(HeaderTest, IsRefused) {
  const Bytes file = SmallFile();
  const std::string header = Replaced(HeaderText(file), GetParam().from, GetParam().to);
  ASSERT_NE(header, "") << "the row does not apply to " << HeaderText(file);
  const Status status = Read(FileAround(header, DataPart(file)));
  EXPECT_EQ(status.code(), GetParam().code) << GetParam().name << ": " << status.message();
  EXPECT_NE(status.message().find(GetParam().message), std::string::npos) << GetParam().name << ": " << status.message();
}

const std::string kLongName(257, 'n');
const char* const kA = R"("a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]})";
const char* const kB = R"("b":{"dtype":"F32","shape":[2,16],"data_offsets":[64,192]})";
const char* const kHdr = R"("~hdr":{"dtype":"U8","shape":[8],"data_offsets":[256,264]})";

INSTANTIATE_TEST_SUITE_P(
    Rows, HeaderTest,
    ::testing::Values(
        HeaderRow{"F9 invalid UTF-8", "header: not valid JSON", R"("producer":"test")", "\"producer\":\"\xFF\""},
        HeaderRow{"F9 overlong UTF-8", "header: not valid JSON", R"("producer":"test")", "\"producer\":\"\xC0\x80\""},
        HeaderRow{"F10 duplicate tensor", "header: a key appears twice in one object", "\"b\":{", "\"a\":{"},
        HeaderRow{"F10 duplicate key in an entry", "header: a key appears twice in one object", kA,
                  R"("a":{"dtype":"U8","dtype":"U8","shape":[3],"data_offsets":[0,3]})"},
        HeaderRow{"F10 duplicate key in __metadata__", "header: a key appears twice in one object", R"("producer":"test")",
                  R"("producer":"test","producer":"test")"},
        HeaderRow{"F11 unknown key in an entry", "tensor 'a': unknown key 'x'", kA,
                  R"("a":{"dtype":"U8","shape":[3],"data_offsets":[0,3],"x":1})"},
        HeaderRow{"F11 unknown key in __metadata__", "__metadata__: unknown key 'author'", R"("producer":"test")",
                  R"("producer":"test","author":"me")"},
        HeaderRow{"F12 missing dtype", "tensor 'a': missing key 'dtype'", kA, R"("a":{"shape":[3],"data_offsets":[0,3]})"},
        HeaderRow{"F12 missing shape", "tensor 'a': missing key 'shape'", kA, R"("a":{"dtype":"U8","data_offsets":[0,3]})"},
        HeaderRow{"F12 missing data_offsets", "tensor 'a': missing key 'data_offsets'", kA, R"("a":{"dtype":"U8","shape":[3]})"},
        HeaderRow{"F12 missing producer", "__metadata__: missing key 'producer'", R"("producer":"test",)", ""},
        HeaderRow{"F12 missing requires", "__metadata__: missing key 'requires'", R"("requires":"",)", ""},
        HeaderRow{"F12 missing graph", "__metadata__: missing key 'graph'", R"("graph":"{\"nodes\":[]}",)", ""},
        HeaderRow{"F12 missing format_version", "__metadata__: missing key 'format_version'", R"("format_version":"1.0",)", ""},
        HeaderRow{"__metadata__ not first", "header: '__metadata__' must come first", R"({"__metadata__":)",
                  std::string("{") + R"("~p9":0,"__metadata__":)"},
        HeaderRow{"__metadata__ missing", "header: '__metadata__' must come first", "__metadata__", "__metadatb__"},
        HeaderRow{"F13 offsets reversed", "tensor 'b': starts at 192, expected 64", "[64,192]", "[192,64]"},
        HeaderRow{"F13 negative offset", "header: numbers with a sign are not allowed", "[64,192]", "[-64,192]"},
        HeaderRow{"F13 float offset", "header: only integers below 2^63 are allowed", "[64,192]", "[64.0,192]"},
        HeaderRow{"F13 exponent", "header: only integers below 2^63 are allowed", "[64,192]", "[64,1e3]"},
        HeaderRow{"F13 offset 2^64", "header: only integers below 2^63 are allowed", "[64,192]", "[64,18446744073709551616]"},
        HeaderRow{"F13 offset 2^63-1", "tensor 'b': data_offsets do not span the 128 bytes of shape [2, 16]", "[64,192]",
                  "[64,9223372036854775807]"},
        HeaderRow{"F13 leading zero", "header: not valid JSON", "[64,192]", "[064,192]"},
        HeaderRow{"F13 minus zero", "header: numbers with a sign are not allowed", "[0,3]", "[-0,3]"},
        HeaderRow{"one offset", "tensor 'b': data_offsets needs 2 numbers, got 1", "[64,192]", "[64]"},
        HeaderRow{"three offsets", "tensor 'b': data_offsets needs 2 numbers, got 3", "[64,192]", "[64,192,192]"},
        HeaderRow{"text offset", "tensor 'b'.data_offsets: expected a number, got a string", "[64,192]", R"(["64",192])"},
        HeaderRow{"F14 hole", "tensor 'b': starts at 128, expected 64", "[64,192]", "[128,256]"},
        HeaderRow{"F14 overlap", "tensor 'b': starts at 0, expected 64", "[64,192]", "[0,128]"},
        HeaderRow{"F14 empty tensor shares an offset", "tensor 'z': dimension 0 is outside [1, 2^31 - 1]", kB,
                  R"("z":{"dtype":"U8","shape":[0],"data_offsets":[64,64]},)" + std::string(kB)},
        HeaderRow{"F14 out of order", "tensor 'a': starts at 64, expected 0", kA,
                  R"("a":{"dtype":"U8","shape":[3],"data_offsets":[64,67]})"},
        HeaderRow{"F15 start not a multiple of 64", "tensor 'q': start 3 is no multiple of 64", R"("~p0":{"dtype":"U8","shape":[61])",
                  R"("q":{"dtype":"U8","shape":[61])"},
        HeaderRow{"F16 padding of the wrong type", "tensor '~p0': padding must be U8[61]", R"("~p0":{"dtype":"U8","shape":[61])",
                  R"("~p0":{"dtype":"I8","shape":[61])"},
        HeaderRow{"F16 padding of rank 2", "tensor '~p0': padding must be U8[61]", R"("~p0":{"dtype":"U8","shape":[61])",
                  R"("~p0":{"dtype":"U8","shape":[1,61])"},
        HeaderRow{"F16 padding misnamed", "tensor '~p2': expected '~p0'", "~p0", "~p2"},
        HeaderRow{"F16 padding where none is needed", "tensor '~p5': names with '~' are for padding, and none is needed here", kB,
                  R"("~p5":{"dtype":"U8","shape":[64],"data_offsets":[64,128]})"},
        HeaderRow{"reserved name", "tensor '~a': names with '~' are for padding, and none is needed here", "\"a\":{", "\"~a\":{"},
        HeaderRow{"F17 product 4 modulo 2^64", "tensor 'b': dimension 211106198978564 is outside [1, 2^31 - 1]", "[2,16]",
                  "[4194305,4194305,211106198978564]"},
        HeaderRow{"F17 2^32 squared", "tensor 'b': dimension 4294967296 is outside [1, 2^31 - 1]", "[2,16]", "[4294967296,4294967296]"},
        HeaderRow{"F17 2^62 by 4", "tensor 'b': dimension 4611686018427387904 is outside [1, 2^31 - 1]", "[2,16]",
                  "[4611686018427387904,4]"},
        HeaderRow{"F17 0 by 2^63", "header: only integers below 2^63 are allowed", "[2,16]", "[0,9223372036854775808]"},
        HeaderRow{"F17 product of legal dimensions overflows",
                  "tensor 'b': shape [2147483647, 2147483647, 2147483647, 2147483647] is larger than 2^40 bytes", "[2,16]",
                  "[2147483647,2147483647,2147483647,2147483647]"},
        HeaderRow{"F18 larger than 2^40 bytes", "tensor 'b': shape [2147483647, 512] is larger than 2^40 bytes", "[2,16]",
                  "[2147483647,512]"},
        HeaderRow{"dimension 2^31", "tensor 'b': dimension 2147483648 is outside [1, 2^31 - 1]", "[2,16]", "[2147483648]"},
        HeaderRow{"dimension 0", "tensor 'b': dimension 0 is outside [1, 2^31 - 1]", "[2,16]", "[0,16]"},
        HeaderRow{"F19 rank 9", "tensor 'b': rank 9 is larger than 8", "[2,16]", "[1,1,1,1,1,1,1,2,16]"},
        HeaderRow{"text dimension", "tensor 'b'.shape: expected a number, got a string", "[2,16]", R"([2,"16"])"},
        HeaderRow{"shape is a number", "tensor 'b'.shape: expected a list, got a number", "[2,16]", "32"},
        HeaderRow{"F22 dtype I4", "tensor 'b': unknown dtype 'I4'", R"("dtype":"F32")", R"("dtype":"I4")"},
        HeaderRow{"F22 dtype F4", "tensor 'b': unknown dtype 'F4'", R"("dtype":"F32")", R"("dtype":"F4")"},
        HeaderRow{"F22 dtype BOOL", "tensor 'b': unknown dtype 'BOOL'", R"("dtype":"F32")", R"("dtype":"BOOL")"},
        HeaderRow{"F22 dtype in lower case", "tensor 'b': unknown dtype 'f32'", R"("dtype":"F32")", R"("dtype":"f32")"},
        HeaderRow{"F22 dtype F64", "tensor 'b': unknown dtype 'F64'", R"("dtype":"F32")", R"("dtype":"F64")"},
        HeaderRow{"F22 empty dtype", "tensor 'b': unknown dtype ''", R"("dtype":"F32")", R"("dtype":"")"},
        HeaderRow{"F22 dtype is a number", "tensor 'b'.dtype: expected a string, got a number", R"("dtype":"F32")", R"("dtype":1)"},
        HeaderRow{"F23 one byte too many", "tensor 'b': data_offsets do not span the 128 bytes of shape [2, 16]", "[64,192]", "[64,193]"},
        HeaderRow{"F23 one byte too few", "tensor 'b': data_offsets do not span the 128 bytes of shape [2, 16]", "[64,192]", "[64,191]"},
        HeaderRow{"F24 empty name", "tensor name: a name has 1 to 256 bytes, got 0", "\"a\":{", "\"\":{"},
        HeaderRow{"F24 name of 257 bytes", "tensor name: a name has 1 to 256 bytes, got 257", "\"a\":{", "\"" + kLongName + "\":{"},
        HeaderRow{"F24 control character in a name", "tensor name: control character in name 'a?'", "\"a\":{", "\"a\\u0001\":{"},
        HeaderRow{"F24 DEL in a name", "tensor name: control character in name 'a?'", "\"a\":{", "\"a\x7F\":{"},
        HeaderRow{"F24 NEL in a name", "tensor name: control character in name 'a?'", "\"a\":{", "\"a\\u0085\":{"},
        HeaderRow{"F24 line separator in a name", "tensor name: control character in name 'a?'", "\"a\":{", "\"a\\u2028\":{"},
        HeaderRow{"F24 override of direction in a name", "tensor name: control character in name 'a?'", "\"a\":{", "\"a\\u202E\":{"},
        HeaderRow{"F24 isolate of direction in a name", "tensor name: control character in name 'a?'", "\"a\":{", "\"a\\u2066\":{"},
        HeaderRow{"F33 NUL in a name", "tensor name: control character in name 'a?'", "\"a\":{", "\"a\\u0000\":{"},
        HeaderRow{"F33 lone surrogate in a name", "header: not valid JSON", "\"a\":{", "\"a\\ud800\":{"},
        HeaderRow{"F24 duplicate ~hdr", "header: a key appears twice in one object", kHdr, std::string(kHdr) + "," + kHdr},
        HeaderRow{"F25 ~hdr missing", "the last tensor must be '~hdr'", kHdr, R"("d":{"dtype":"U8","shape":[8],"data_offsets":[256,264]})"},
        HeaderRow{"F25 tensor after ~hdr", "tensor 'd' after '~hdr', which must be the last", kHdr,
                  R"("~hdr":{"dtype":"U8","shape":[8],"data_offsets":[256,264]},"d":0)"},
        HeaderRow{"F25 ~hdr of 4 bytes", "'~hdr' must be U8[8]", kHdr, R"("~hdr":{"dtype":"U8","shape":[4],"data_offsets":[256,260]})"},
        HeaderRow{"F25 ~hdr of another type", "'~hdr' must be U8[8]", kHdr,
                  R"("~hdr":{"dtype":"I8","shape":[8],"data_offsets":[256,264]})"},
        HeaderRow{"F25 ~hdr beyond the end", "tensor '~hdr': ends at 265, beyond the end of the file", kHdr,
                  R"("~hdr":{"dtype":"U8","shape":[9],"data_offsets":[256,265]})"},
        HeaderRow{"F26 hash missing", "__metadata__: unknown key 'h'", R"("hashes":")",
                  R"("hashes":"",)"
                  "\"h\":\""},
        HeaderRow{"F27 plain safetensors", "not a pyqinfer model: the metadata's format is not 'pyqinfer'", R"("format":"pyqinfer")",
                  R"("format":"pt")"},
        HeaderRow{"F28 version 1.7 with unknown features", "the file needs features that this build lacks: 'winograd,sparse'",
                  R"("1.0","producer":"test","requires":"")", R"("1.7","producer":"test","requires":"winograd,sparse")",
                  Code::kUnsupported},
        HeaderRow{"F28 version 1.0 with unknown features", "the file needs features that this build lacks: 'entropy'", R"("requires":"")",
                  R"("requires":"entropy")", Code::kUnsupported},
        HeaderRow{"F28 known and unknown features", "the file needs features that this build lacks: 'sparse'", R"("requires":"")",
                  R"("requires":"trit_rans,sparse")", Code::kUnsupported},
        HeaderRow{"F28 features with an empty item", "requires 'a,,b' is not a comma-separated list", R"("requires":"")",
                  R"("requires":"a,,b")"},
        HeaderRow{"F28 features with a comma at the end", "requires 'a,' is not a comma-separated list", R"("requires":"")",
                  R"("requires":"a,")"},
        HeaderRow{"F28 version 2.0", "format_version '2.0': this build reads version 1", "\"1.0\"", "\"2.0\"", Code::kUnsupported},
        HeaderRow{"F28 version 2.0 with other rules", "format_version '2.0': this build reads version 1", R"("1.0","producer":"test")",
                  R"("2.0","writer":"test")", Code::kUnsupported},
        HeaderRow{"F28 version 0.9", "format_version '0.9' is not a version such as '1.0'", "\"1.0\"", "\"0.9\""},
        HeaderRow{"F28 version 1", "format_version '1' is not a version such as '1.0'", "\"1.0\"", "\"1\""},
        HeaderRow{"F28 version abc", "format_version 'abc' is not a version such as '1.0'", "\"1.0\"", "\"abc\""},
        HeaderRow{"F28 version 1.0.0.0", "format_version '1.0.0.0' is not a version such as '1.0'", "\"1.0\"", "\"1.0.0.0\""},
        HeaderRow{"F28 version 01.0", "format_version '01.0' is not a version such as '1.0'", "\"1.0\"", "\"01.0\""},
        HeaderRow{"F28 version 1.", "format_version '1.' is not a version such as '1.0'", "\"1.0\"", "\"1.\""},
        HeaderRow{"F28 version 1.1234567", "format_version '1.1234567' is not a version such as '1.0'", "\"1.0\"", "\"1.1234567\""},
        HeaderRow{"F28 version empty", "format_version '' is not a version such as '1.0'", "\"1.0\"", "\"\""},
        HeaderRow{"F32 metadata value is a number", "__metadata__.'producer': expected a string, got a number", R"("producer":"test")",
                  R"("producer":1)"},
        HeaderRow{"F32 metadata value is an object", "__metadata__.'producer': expected a string, got an object", R"("producer":"test")",
                  R"("producer":{})"},
        HeaderRow{"F20 depth 17", "header: nested deeper than 16", "[2,16]", std::string(15, '[') + std::string(15, ']')}));

TEST(Container, AcceptsALargerMinorVersionWithoutNewFeatures) {
  const Bytes file = SmallFile();
  EXPECT_TRUE(Read(FileAround(Replaced(HeaderText(file), "\"1.0\"", "\"1.7\""), DataPart(file))).ok());
}

TEST(Container, ListsTheFeaturesThatTheFileRequires) {
  const Result<AlignedBuffer<uint8_t>> file = WriteContainer("test", kTritRansFeature, "{}", {});
  EXPECT_NE(HeaderText(ToBytes(file.value().span())).find(R"("format_version":"1.1","producer":"test","requires":"trit_rans")"),
            std::string::npos);
  const Result<Container> container = ReadContainer(file.value().span());
  ASSERT_TRUE(container.ok()) << container.status().message();
  EXPECT_TRUE(container.value().Requires(kTritRansFeature));
  EXPECT_FALSE(ReadContainer(WriteContainer("test", "", "{}", {}).value().span()).value().Requires(kTritRansFeature));
}

TEST(Container, AcceptsTheLargestRankAndName) {
  const Bytes file = SmallFile();
  EXPECT_TRUE(Read(FileAround(Replaced(HeaderText(file), "[2,16]", "[1,1,1,1,1,1,2,16]"), DataPart(file))).ok());
  EXPECT_TRUE(Read(FileAround(Replaced(HeaderText(file), "\"a\":{", "\"" + std::string(256, 'n') + "\":{"), DataPart(file))).ok());
}

struct HashRow {
  const char* name;
  std::function<void(std::string*)> change;  // what is done to the digits of the hashes
  Code code;
};

TEST(Container, ChecksHashesOfTensors) {
  const Bytes file = SmallFile();
  const std::string header = HeaderText(file);
  const size_t begin = header.find(R"("hashes":")") + 10;
  const std::string digits = header.substr(begin, header.find('"', begin) - begin);
  ASSERT_EQ(digits.size(), 5 * 16u);
  const HashRow rows[] = {
      {"F26 all missing", [](std::string* s) { s->clear(); }, Code::kModelFormat},
      {"F26 one missing", [](std::string* s) { s->resize(64); }, Code::kModelFormat},
      {"F26 one too many", [](std::string* s) { s->append(16, '0'); }, Code::kModelFormat},
      {"F26 one digit short", [](std::string* s) { s->pop_back(); }, Code::kModelFormat},
      {"F26 upper case", [](std::string* s) { (*s)[0] = 'A'; }, Code::kModelFormat},
      {"F26 no digit", [](std::string* s) { (*s)[5] = 'g'; }, Code::kModelFormat},
      {"F26 sign", [](std::string* s) { (*s)[0] = '-'; }, Code::kModelFormat},
      {"wrong hash of a tensor", [](std::string* s) { (*s)[3] = (*s)[3] == '0' ? '1' : '0'; }, Code::kIntegrity},
      {"wrong hash of padding", [](std::string* s) { (*s)[20] = (*s)[20] == '0' ? '1' : '0'; }, Code::kIntegrity},
  };
  for (const HashRow& row : rows) {
    std::string changed = digits;
    row.change(&changed);
    EXPECT_EQ(Read(FileAround(Replaced(header, digits, changed), DataPart(file))).code(), row.code) << row.name;
  }
}

TEST(Container, RefusesPaddingThatIsNotZero) {  // F16
  const Bytes file = SmallFile();
  Bytes data = DataPart(file);
  data[10] = 1;
  const auto digits = [](uint64_t hash) {
    char text[17];
    std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(hash));
    return std::string(text);
  };
  const std::string header = Replaced(HeaderText(file), digits(Xxh64(Bytes(61, 0))), digits(Xxh64({data.data() + 3, 61})));
  EXPECT_EQ(Read(FileAround(header, data)).code(), Code::kModelFormat);
}

TEST(Container, RefusesTooManyTensorsAndTokens) {  // F21
  const Bytes file = SmallFile();
  std::string many = HeaderText(file);
  many.pop_back();
  for (size_t i = 0; i < kMaxTensors; ++i) many += ",\"t" + std::to_string(i) + "\":0";
  const Status status = Read(FileAround(many + "}", DataPart(file)));
  EXPECT_EQ(status.code(), Code::kModelFormat);
  EXPECT_NE(status.message().find("65,536"), std::string::npos) << status.message();

  std::string ranks = Replaced(
      HeaderText(file), "[2,16]", "[1" + [] {
        std::string ones;
        for (int i = 0; i < 1'000'000; ++i) ones += ",1";
        return ones;
      }() + "]");
  EXPECT_EQ(Read(FileAround(ranks, DataPart(file))).code(), Code::kModelFormat);  // F19 rank 10^6
}

struct PreludeRow {
  const char* name;
  std::function<void(Bytes*)> change;
  Code code = Code::kModelFormat;
};

void SetN(Bytes* file, uint64_t n) { std::memcpy(file->data(), &n, 8); }

TEST(Container, RefusesBadSizesAndHeaderLengths) {
  const uint64_t size = SmallFile().size();
  std::vector<PreludeRow> rows = {
      {"F1 empty file", [](Bytes* f) { f->clear(); }},
      {"F8 header does not begin with {", [](Bytes* f) { (*f)[8] = '['; }},
      {"F8 leading space", [](Bytes* f) { (*f)[8] = ' '; }},
      {"F8 byte order mark", [](Bytes* f) { std::memcpy(f->data() + 8, "\xEF\xBB\xBF", 3); }},
      {"F31 N in the other byte order", [](Bytes* f) { std::reverse(f->begin(), f->begin() + 8); }},
      {"F34 two files in a row",
       [](Bytes* f) {
         const Bytes copy = *f;
         f->insert(f->end(), copy.begin(), copy.end());
       }},
      {"F25 wrong ~hdr", [](Bytes* f) { f->back() ^= 1; }, Code::kIntegrity},
      {"F7 N one block short", [](Bytes* f) { SetN(f, HeaderEnd(*f) - 8 - 64); }, Code::kIntegrity},
  };
  for (size_t keep = 1; keep < kPreludeBytes; ++keep) rows.push_back({"F2 too short", [keep](Bytes* f) { f->resize(keep); }});
  for (size_t extra : {1, 64, 4096}) {
    rows.push_back({"F6 trailing bytes", [extra](Bytes* f) { f->resize(f->size() + extra, 0x55); }, Code::kIntegrity});
  }
  for (uint64_t n : {uint64_t{0}, uint64_t{1}, uint64_t{2}, size, size - 7, size - 8, (uint64_t{16} << 20) + 1, uint64_t{1} << 31,
                     uint64_t{1} << 32, uint64_t{1} << 63, ~uint64_t{0}}) {
    rows.push_back({"F7 N", [n](Bytes* f) { SetN(f, n); }});
  }
  for (const PreludeRow& row : rows) {
    Bytes file = SmallFile();
    row.change(&file);
    const Status status = Read(file);
    EXPECT_EQ(status.code(), row.code) << row.name << ", " << file.size() << " bytes: " << status.message();
  }
}

TEST(Container, RefusesTrailingBytesEvenWhenTheyEndInAHash) {  // F6
  Bytes file = SmallFile();
  file.resize(file.size() + 64);
  PutHeaderHash(&file, HeaderEnd(file));
  EXPECT_EQ(Read(file).code(), Code::kModelFormat);
}

TEST(Container, RefusesAHeaderThatIsTooLongOrEndsBetweenBlocks) {  // F7, F21: both with a valid hash
  const Bytes file = SmallFile();
  const std::string header = HeaderText(file);
  EXPECT_TRUE(Read(FileAround(header + std::string((size_t{16} << 20) - 8 - header.size(), ' '), DataPart(file))).ok());
  const Status too_long = Read(FileAround(header + std::string((size_t{16} << 20) + 8 - header.size(), ' '), DataPart(file)));
  EXPECT_EQ(too_long.code(), Code::kModelFormat);
  EXPECT_NE(too_long.message().find("larger than 16 MiB"), std::string::npos) << too_long.message();

  Bytes shifted = FileAround(header, DataPart(file));
  const size_t end = HeaderEnd(shifted);
  shifted.insert(shifted.begin() + static_cast<std::ptrdiff_t>(end), ' ');
  SetN(&shifted, end - 8 + 1);
  PutHeaderHash(&shifted, end + 1);
  const Status between = Read(shifted);
  EXPECT_EQ(between.code(), Code::kModelFormat);
  EXPECT_NE(between.message().find("no multiple of 64"), std::string::npos) << between.message();
}

TEST(Container, DoesNotWriteAHeaderThatItWouldNotRead) {
  EXPECT_EQ(WriteContainer("", "", std::string(size_t{16} << 20, 'x'), {}).status().code(), Code::kInvalidArgument);
}

TEST(Container, RefusesAHeaderThatEndsInOtherThanSpaces) {  // F8
  const Bytes file = SmallFile();
  for (const char* tail : {"\n", "\t", "x", "{}"}) {
    EXPECT_EQ(Read(FileAround(HeaderText(file) + tail, DataPart(file))).code(), Code::kModelFormat) << tail;
  }
  EXPECT_EQ(Read(FileAround(HeaderText(file) + std::string("\0}", 2), DataPart(file))).code(), Code::kModelFormat);
  EXPECT_TRUE(Read(FileAround(HeaderText(file) + std::string(640, ' '), DataPart(file))).ok());
}

// F3, F4, F5 on the container alone; the model tests repeat them on a whole model.
TEST(Container, RefusesEveryTruncationAndEverySingleBitFlip) {
  const Bytes file = SmallFile();
  for (size_t keep = 0; keep < file.size(); ++keep) {
    const Status status = Read({file.begin(), file.begin() + static_cast<std::ptrdiff_t>(keep)});
    ASSERT_TRUE(status.code() == Code::kModelFormat || status.code() == Code::kIntegrity) << keep;
  }
  for (size_t at = 0; at < file.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      Bytes changed = file;
      changed[at] = static_cast<uint8_t>(changed[at] ^ 1 << bit);
      const Status status = Read(changed);
      ASSERT_TRUE(status.code() == Code::kModelFormat || status.code() == Code::kIntegrity) << "byte " << at << " bit " << bit;
    }
  }
}

struct ForeignRow {
  const char* name;
  std::string start;
  const char* hint;
};

TEST(Container, SaysWhatAForeignFileIs) {  // F27, F29, F30
  using namespace std::string_literals;
  const ForeignRow rows[] = {
      {"zip", "PK\x03\x04\x14\x00"s, "zip archive"},
      {"GGUF", "GGUF\x03\x00"s, "GGUF"},
      {"ONNX", "\x08\x08\x12\x07pytorch"s, "ONNX"},
      {"TFLite", "\x1C\x00\x00\x00TFL3"s, "TensorFlow Lite"},
      {"PNG", "\x89PNG\r\n\x1a\n"s, "PNG"},
      {"gzip", "\x1F\x8B\x08"s, "gzip"},
      {"pickle", "\x80\x02}q"s, "pickle"},
      {"pickle 4", "\x80\x04\x95"s, "pickle"},
      {"ELF",
       "\x7F"
       "ELF\x02"s,
       "ELF"},
      {"Git LFS", "version https://git-lfs.github.com/spec/v1\noid sha256:0123456789"s, "git lfs pull"},
      {"JSON", "{\"a\": 1}"s, "JSON"},
      {"noise", std::string(100, '\xA5'), "not a pyqinfer model"},
  };
  for (const ForeignRow& row : rows) {
    for (size_t size : {size_t{200}, row.start.size()}) {
      std::string text = row.start;
      text.resize(size, '\x01');
      const Status status = Read(ToBytes(text));
      EXPECT_EQ(status.code(), Code::kModelFormat) << row.name;
      EXPECT_NE(status.message().find(row.hint), std::string::npos) << row.name << ": " << status.message();
    }
  }
  for (size_t multiple : {8, 64}) {  // a header as Hugging Face's writer makes it, with and without luck in its length
    std::string header = R"({"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[16],"data_offsets":[0,64]}})";
    while ((8 + header.size()) % multiple != 0 || (multiple == 8 && (8 + header.size()) % 64 == 0)) header += ' ';
    Bytes file(8);
    SetN(&file, header.size());
    file.insert(file.end(), header.begin(), header.end());
    file.resize(file.size() + 64, 1);
    const Status status = Read(file);
    EXPECT_EQ(status.code(), Code::kModelFormat);
    EXPECT_NE(status.message().find("not a pyqinfer model"), std::string::npos) << status.message();
    EXPECT_NE(status.message().find("safetensors"), std::string::npos) << status.message();
  }
}

TEST(Container, MessagesRepeatHostileNamesSafely) {
  const Bytes file = SmallFile();
  const std::string name = "evil\\n\\u001b[31m" + std::string(200, 'x');
  const Status status = Read(FileAround(Replaced(HeaderText(file), "\"a\":{", "\"" + name + "\":{"), DataPart(file)));
  EXPECT_EQ(status.code(), Code::kModelFormat);
  EXPECT_LT(status.message().size(), 200u);
  for (char c : status.message()) EXPECT_GE(c, ' ');
}

}  // namespace
}  // namespace pqi::test
