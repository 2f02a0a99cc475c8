#include "format/json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>
#include <string>

namespace pqi::test {
namespace {

std::string Repeat(const std::string& piece, size_t n) {
  std::string out;
  for (size_t i = 0; i < n; ++i) out += piece;
  return out;
}

// Writes the tree as text, which shows that every kind, key and order was kept.
std::string Dump(JsonRef value) {
  std::string out;
  switch (value.kind()) {
    case JsonKind::kNumber:
      return std::to_string(value.number());
    case JsonKind::kString:
      return "'" + std::string(value.text()) + "'";
    case JsonKind::kArray:
      for (JsonRef element : value) out += (out.empty() ? "" : ",") + Dump(element);
      return "[" + out + "]";
    case JsonKind::kObject:
      break;
  }
  for (JsonRef member : value) out += (out.empty() ? "" : ",") + std::string(member.key()) + ":" + Dump(member);
  return "{" + out + "}";
}

struct Good {
  const char* text;
  const char* dump;
};

TEST(Json, ReadsTheSubset) {
  const Good rows[] = {
      {"{}", "{}"},
      {R"({"a":1})", "{a:1}"},
      {R"({"a":[1,[2,"x"],{}],"b":{"c":""}})", "{a:[1,[2,'x'],{}],b:{c:''}}"},
      {R"({"max":9223372036854775807})", "{max:9223372036854775807}"},
      {R"({"\u00e9":"\ud83d\ude00 \n\"\\\/"})", "{é:'😀 \n\"\\/'}"},
      {"{ \"a\" :\t[ 0 , 1 ]\n}", "{a:[0,1]}"},
      {R"({"z":1,"a":2})", "{z:1,a:2}"},
      {R"({"o":{"a":1},"p":{"a":1}})", "{o:{a:1},p:{a:1}}"},
  };
  for (const Good& row : rows) {
    const Result<JsonDocument> doc = JsonDocument::Parse(row.text, "text");
    ASSERT_TRUE(doc.ok()) << row.text << ": " << doc.status().message();
    EXPECT_EQ(Dump(doc.value().root()), row.dump);
  }
}

TEST(Json, FindsMembersByKey) {
  const Result<JsonDocument> doc = JsonDocument::Parse(R"({"a":{"b":1},"b":2})", "text");
  ASSERT_TRUE(doc.ok());
  EXPECT_EQ(doc.value().root().Find("b")->number(), 2u);
  EXPECT_EQ(doc.value().root().size(), 2u);
  EXPECT_FALSE(doc.value().root().Find("c").has_value());
}

struct Bad {
  const char* name;
  std::string text;
};

TEST(Json, RefusesEverythingOutsideTheSubset) {
  const Bad rows[] = {
      {"empty", ""},
      {"one brace", "{"},
      {"array root", "[1]"},
      {"number root", "1"},
      {"leading space", " {}"},
      {"trailing space", "{} "},
      {"byte order mark", "\xEF\xBB\xBF{}"},
      {"utf-16", std::string("{\0}\0", 4)},
      {"NUL ends the text for nlohmann", std::string("{}\0{}", 5)},
      {"NUL in a string", std::string("{\"a\":\"\0\"}", 9)},
      {"two objects", "{}{}"},
      {"unclosed", R"({"a":[1})"},
      {"trailing comma", R"({"a":1,})"},
      {"comment", R"({/*c*/"a":1})"},
      {"null", R"({"a":null})"},
      {"true", R"({"a":true})"},
      {"false", R"({"a":false})"},
      {"negative", R"({"a":-1})"},
      {"minus zero", R"({"a":-0})"},
      {"plus", R"({"a":+1})"},
      {"leading zero", R"({"a":01})"},
      {"fraction", R"({"a":2.0})"},
      {"exponent", R"({"a":1e3})"},
      {"2^63", R"({"a":9223372036854775808})"},
      {"2^64", R"({"a":18446744073709551616})"},
      {"10^400", "{\"a\":1" + Repeat("0", 400) + "}"},
      {"NaN", R"({"a":NaN})"},
      {"hexadecimal", R"({"a":0x10})"},
      {"single quotes", "{'a':1}"},
      {"duplicate key", R"({"a":1,"a":1})"},
      {"duplicate key by escape", R"({"a":1,"\u0061":1})"},
      {"duplicate empty key", R"({"":1,"":1})"},
      {"duplicate key in a list's object", R"({"a":[{"b":1,"c":2,"b":3}]})"},
      {"overlong UTF-8", "{\"\xC0\xAF\":1}"},
      {"overlong UTF-8 of 3 bytes", "{\"\xE0\x80\xAF\":1}"},
      {"surrogate in UTF-8", "{\"\xED\xA0\x80\":1}"},
      {"UTF-8 beyond 10FFFF", "{\"\xF4\x90\x80\x80\":1}"},
      {"lone continuation", "{\"\x80\":1}"},
      {"cut UTF-8", "{\"\xC3\":1}"},
      {"lone high surrogate", R"({"a":"\ud800"})"},
      {"lone low surrogate", R"({"a":"\udc00"})"},
      {"high surrogate and letter", R"({"a":"\ud800x"})"},
      {"raw control character", "{\"a\":\"\x01\"}"},
      {"unknown escape", R"({"a":"\x41"})"},
      {"depth 17", "{\"a\":" + Repeat("[", 16) + Repeat("]", 16) + "}"},
      {"a million brackets", "{\"a\":" + Repeat("[", 1'000'000) + "}"},
      {"a million and one tokens", "{\"a\":[0" + Repeat(",0", kJsonMaxTokens - 5) + "]}"},
  };
  for (const Bad& row : rows) {
    const Result<JsonDocument> doc = JsonDocument::Parse(row.text, "text");
    EXPECT_EQ(doc.status().code(), Code::kModelFormat) << row.name;
  }
}

TEST(Json, AcceptsTheLimitsThemselves) {
  EXPECT_TRUE(JsonDocument::Parse("{\"a\":" + Repeat("[", 15) + Repeat("]", 15) + "}", "text").ok());
  EXPECT_TRUE(JsonDocument::Parse("{\"a\":[0" + Repeat(",0", kJsonMaxTokens - 6) + "]}", "text").ok());
}

// Whatever this reader accepts, nlohmann's DOM accepts with the same content; the subset only takes away.
TEST(Json, AgreesWithNlohmannOnMutatedTexts) {
  const std::string base = R"({"symbols":["N"],"a":{"b":[1,23,"\u00e9\\"],"c":{}},"d":0,"e":"x"})";
  std::mt19937 random(1);
  size_t accepted = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string text = base;
    for (size_t k = random() % 3 + 1; k > 0; --k) {
      const size_t at = random() % text.size();
      if (random() % 2 == 0) {
        text[at] = base[random() % base.size()];
      } else {
        text[at] = static_cast<char>(random());
      }
    }
    const Result<JsonDocument> doc = JsonDocument::Parse(text, "text");
    if (!doc.ok()) continue;
    ++accepted;
    const nlohmann::json dom = nlohmann::json::parse(text, nullptr, false);
    ASSERT_TRUE(dom.is_object()) << text;
    ASSERT_EQ(dom.size(), doc.value().root().size()) << text;
    for (JsonRef member : doc.value().root()) {
      const nlohmann::json& other = dom.at(std::string(member.key()));
      switch (member.kind()) {
        case JsonKind::kNumber:
          EXPECT_EQ(other.get<uint64_t>(), member.number()) << text;
          break;
        case JsonKind::kString:
          EXPECT_EQ(other.get<std::string>(), member.text()) << text;
          break;
        case JsonKind::kObject:
        case JsonKind::kArray:
          EXPECT_EQ(other.size(), member.size()) << text;
          break;
      }
    }
  }
  EXPECT_GT(accepted, 500u);
}

}  // namespace
}  // namespace pqi::test
