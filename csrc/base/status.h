// Status and Result: how every fallible function of the core reports.
//
// The core throws nothing of its own; std::bad_alloc is the one exception that may pass through it, and the
// outermost layer (csrc/api, csrc/python) turns that into Code::kNoMemory.
#pragma once

#include <optional>
#include <string>
#include <utility>

namespace pqi {

enum class Code {
  kOk = 0,
  kInvalidArgument,  // the caller's shapes, dtypes, names or option values
  kModelFormat,      // a file that breaks docs/format.md
  kIntegrity,        // a file whose checksum does not match
  kUnsupported,      // an op, version, feature or ISA that this build or machine lacks
  kNoMemory,
  kIo,
  kInternal,
  kCancelled,  // a run that its caller ended
};

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Code code, std::string message, int os_error = 0) : code_(code), os_error_(os_error), message_(std::move(message)) {}

  bool ok() const { return code_ == Code::kOk; }
  Code code() const { return code_; }
  const std::string& message() const { return message_; }
  int os_error() const { return os_error_; }  // errno of a kIo error, so that callers can tell "not found" from "no permission"; else 0

 private:
  Code code_ = Code::kOk;
  int os_error_ = 0;
  std::string message_;
};

inline Status InvalidArgument(std::string m) { return {Code::kInvalidArgument, std::move(m)}; }
inline Status ModelFormat(std::string m) { return {Code::kModelFormat, std::move(m)}; }
inline Status Integrity(std::string m) { return {Code::kIntegrity, std::move(m)}; }
inline Status Unsupported(std::string m) { return {Code::kUnsupported, std::move(m)}; }
inline Status IoError(std::string m, int os_error = 0) { return {Code::kIo, std::move(m), os_error}; }
inline Status NoMemory(std::string m) { return {Code::kNoMemory, std::move(m)}; }
inline Status Cancelled(std::string m) { return {Code::kCancelled, std::move(m)}; }
inline Status Internal(std::string m) { return {Code::kInternal, std::move(m)}; }

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}          // NOLINT(google-explicit-constructor)
  Result(Status status) : status_(std::move(status)) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }
  T& value() & { return *value_; }
  const T& value() const& { return *value_; }
  T&& value() && { return *std::move(value_); }

 private:
  std::optional<T> value_;
  Status status_;
};

#define PQI_CONCAT_INNER(a, b) a##b
#define PQI_CONCAT(a, b) PQI_CONCAT_INNER(a, b)
#define PQI_RETURN_IF_ERROR(expr)              \
  do {                                         \
    ::pqi::Status pqi_status_ = (expr);        \
    if (!pqi_status_.ok()) return pqi_status_; \
  } while (false)
#define PQI_ASSIGN_OR_RETURN(lhs, expr) PQI_ASSIGN_OR_RETURN_IMPL(PQI_CONCAT(pqi_result_, __LINE__), lhs, expr)
#define PQI_ASSIGN_OR_RETURN_IMPL(result, lhs, expr) \
  auto result = (expr);                              \
  if (!result.ok()) return result.status();          \
  lhs = std::move(result).value()

}  // namespace pqi
