#include "fuzz/target.h"

#include <cstdio>
#include <cstdlib>
#include <new>

namespace pqi::fuzz {
namespace {

// A campaign that ran next to nothing is no evidence: PQI_FUZZ_LEAST executions are the least that counts (.ci/fuzz).
void Report() {
  const Counts& c = Counted();
  std::fprintf(stderr, "executions %llu, loaded %llu, runs %llu\n", static_cast<unsigned long long>(c.executions),
               static_cast<unsigned long long>(c.loaded), static_cast<unsigned long long>(c.runs));
  const char* const least = std::getenv("PQI_FUZZ_LEAST");
  if (!least || c.executions >= std::strtoull(least, nullptr, 10)) return;
  std::fprintf(stderr, "fuzz: fewer than %s executions\n", least);
  std::_Exit(3);
}

}  // namespace

Counts& Counted() {
  static Counts counts;
  return counts;
}

void Die(const char* what, const std::string& detail) {
  std::fprintf(stderr, "fuzz: %s: %s\n", what, detail.c_str());
  std::abort();
}

void RequireGoodError(const Status& status, bool writing) {
  const bool expected = status.code() == Code::kModelFormat || status.code() == Code::kIntegrity || status.code() == Code::kUnsupported ||
                        (writing && status.code() == Code::kInvalidArgument);
  Require(expected && !status.message().empty() && status.message().size() < 20'000, "unexpected error", status.message());
}

}  // namespace pqi::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const int registered = std::atexit(pqi::fuzz::Report);
  (void)registered;
  ++pqi::fuzz::Counted().executions;
  try {
    pqi::fuzz::One(data, size);
  } catch (const std::bad_alloc&) {
    // A valid file may ask for more than this process may take.
  }
  return 0;
}
