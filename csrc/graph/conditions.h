// What the sizes of a graph's inputs must fulfil: comparisons of terms over the graph's symbols (docs/format.md, "conditions").
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/span.h"
#include "base/status.h"

namespace pqi {

// A term is a tree in post-order: what an operation works on stands in front of it.
struct TermNode {
  enum Kind : uint8_t { kNumber, kSymbol, kAdd, kSubtract, kMultiply, kFloorDivide, kModulo, kMinimum, kMaximum };
  Kind kind = kNumber;
  int64_t value = 0;  // the number, or the symbol's index in Graph::symbols
};
using Term = std::vector<TermNode>;

// A size that is computed from those of the inputs. Attributes may name it where they may name a symbol.
struct Size {
  std::string name;
  Term term;
};

struct Condition {
  enum Comparison : uint8_t { kEqual, kNotEqual, kLess, kLessOrEqual };
  Comparison comparison = kEqual;
  Term left, right;
};

// The operation or comparison that the file writes as `text`.
std::optional<TermNode::Kind> OperationOf(std::string_view text);
std::optional<Condition::Comparison> ComparisonOf(std::string_view text);
const char* TextOf(TermNode::Kind operation);
const char* TextOf(Condition::Comparison comparison);

// A condition as people write it: "2*(H // 2) == H".
std::string ConditionText(const Condition& condition, Span<const std::string> symbols);

// The term's number where symbol i stands for numbers[i]. Division rounds down. None if a step divides by zero or leaves int64.
std::optional<int64_t> Evaluate(const Term& term, Span<const int64_t> numbers);

// Appends the number of each size. kInvalidArgument names one that has none in [0, most].
Status EvaluateSizes(Span<const Size> sizes, Span<const std::string> symbols, Span<const int64_t> numbers, int64_t most,
                     std::vector<int64_t>* out);

// kInvalidArgument with the first condition that the numbers do not fulfil; a term without a number fulfils none.
Status CheckConditions(Span<const Condition> conditions, Span<const std::string> symbols, Span<const int64_t> numbers);

}  // namespace pqi
