#include "graph/conditions.h"

#include <algorithm>
#include <string_view>

#include "base/checked.h"
#include "base/text.h"

namespace pqi {
namespace {

struct OperationRow {
  TermNode::Kind kind;
  const char* text;
};
constexpr OperationRow kOperations[] = {{TermNode::kAdd, "+"},          {TermNode::kSubtract, "-"}, {TermNode::kMultiply, "*"},
                                        {TermNode::kFloorDivide, "//"}, {TermNode::kModulo, "%"},   {TermNode::kMinimum, "min"},
                                        {TermNode::kMaximum, "max"}};

struct ComparisonRow {
  Condition::Comparison comparison;
  const char* text;
};
constexpr ComparisonRow kComparisons[] = {
    {Condition::kEqual, "=="}, {Condition::kNotEqual, "!="}, {Condition::kLess, "<"}, {Condition::kLessOrEqual, "<="}};

std::optional<int64_t> Apply(TermNode::Kind operation, int64_t a, int64_t b) {
  int64_t result = 0;
  switch (operation) {
    case TermNode::kNumber:
    case TermNode::kSymbol:
      return std::nullopt;
    case TermNode::kAdd:
      return __builtin_add_overflow(a, b, &result) ? std::nullopt : std::optional(result);
    case TermNode::kSubtract:
      return __builtin_sub_overflow(a, b, &result) ? std::nullopt : std::optional(result);
    case TermNode::kMultiply:
      return CheckedMul(a, b, &result) ? std::optional(result) : std::nullopt;
    case TermNode::kFloorDivide:
    case TermNode::kModulo:
      break;
    case TermNode::kMinimum:
      return std::min(a, b);
    case TermNode::kMaximum:
      return std::max(a, b);
  }
  // The quotient of the least number and -1 is the only one that int64 does not hold.
  if (b == 0 || (b == -1 && a == INT64_MIN)) return std::nullopt;
  const FloorQuotient floor = FloorDivide(a, b);
  return operation == TermNode::kFloorDivide ? floor.quotient : floor.remainder;
}

std::string TermText(const Term& term, Span<const std::string> symbols) {
  std::vector<std::string> stack;
  for (const TermNode& node : term) {
    if (node.kind == TermNode::kNumber) {
      stack.push_back(std::to_string(node.value));
    } else if (node.kind == TermNode::kSymbol) {
      stack.push_back(symbols[static_cast<size_t>(node.value)]);
    } else {
      const std::string right = std::move(stack.back());
      stack.pop_back();
      const bool is_function = node.kind == TermNode::kMinimum || node.kind == TermNode::kMaximum;
      const std::string operation = TextOf(node.kind);
      stack.back() =
          is_function ? operation + "(" + stack.back() + ", " + right + ")" : "(" + stack.back() + " " + operation + " " + right + ")";
    }
  }
  std::string text = std::move(stack.back());
  return text.size() > 1 && text.front() == '(' ? text.substr(1, text.size() - 2) : text;
}

bool Holds(Condition::Comparison comparison, int64_t a, int64_t b) {
  switch (comparison) {
    case Condition::kEqual:
      return a == b;
    case Condition::kNotEqual:
      return a != b;
    case Condition::kLess:
      return a < b;
    case Condition::kLessOrEqual:
      return a <= b;
  }
  return false;
}

// "H = 9, W = 8": the numbers of the symbols that the terms mention.
std::string NumbersText(std::initializer_list<const Term*> terms, Span<const std::string> symbols, Span<const int64_t> numbers) {
  std::string text;
  for (size_t i = 0; i < symbols.size(); ++i) {
    const auto mentions = [i](const TermNode& node) { return node.kind == TermNode::kSymbol && node.value == static_cast<int64_t>(i); };
    const auto in = [&mentions](const Term* term) { return std::any_of(term->begin(), term->end(), mentions); };
    if (std::any_of(terms.begin(), terms.end(), in)) text += (text.empty() ? "" : ", ") + symbols[i] + " = " + std::to_string(numbers[i]);
  }
  return text;
}

}  // namespace

std::optional<TermNode::Kind> OperationOf(std::string_view text) {
  for (const OperationRow& row : kOperations) {
    if (text == row.text) return row.kind;
  }
  return std::nullopt;
}

std::optional<Condition::Comparison> ComparisonOf(std::string_view text) {
  for (const ComparisonRow& row : kComparisons) {
    if (text == row.text) return row.comparison;
  }
  return std::nullopt;
}

const char* TextOf(TermNode::Kind operation) {
  for (const OperationRow& row : kOperations) {
    if (operation == row.kind) return row.text;
  }
  return "";
}

const char* TextOf(Condition::Comparison comparison) {
  for (const ComparisonRow& row : kComparisons) {
    if (comparison == row.comparison) return row.text;
  }
  return "";
}

std::string ConditionText(const Condition& condition, Span<const std::string> symbols) {
  return TermText(condition.left, symbols) + " " + TextOf(condition.comparison) + " " + TermText(condition.right, symbols);
}

std::optional<int64_t> Evaluate(const Term& term, Span<const int64_t> numbers) {
  std::vector<int64_t> stack;
  for (const TermNode& node : term) {
    if (node.kind == TermNode::kNumber) {
      stack.push_back(node.value);
    } else if (node.kind == TermNode::kSymbol) {
      stack.push_back(numbers[static_cast<size_t>(node.value)]);
    } else {
      const int64_t right = stack.back();
      stack.pop_back();
      const std::optional<int64_t> result = Apply(node.kind, stack.back(), right);
      if (!result) return std::nullopt;
      stack.back() = *result;
    }
  }
  return stack.back();
}

Status EvaluateSizes(Span<const Size> sizes, Span<const std::string> symbols, Span<const int64_t> numbers, int64_t most,
                     std::vector<int64_t>* out) {
  for (const Size& size : sizes) {
    const std::optional<int64_t> number = Evaluate(size.term, numbers);
    if (number && *number >= 0 && *number <= most) {
      out->push_back(*number);
      continue;
    }
    return InvalidArgument("the model computes with the size " + TermText(size.term, symbols) + ", which is " +
                           (number ? std::to_string(*number) : "no number") + " here: the inputs have " +
                           NumbersText({&size.term}, symbols, numbers));
  }
  return {};
}

Status CheckConditions(Span<const Condition> conditions, Span<const std::string> symbols, Span<const int64_t> numbers) {
  for (const Condition& condition : conditions) {
    const std::optional<int64_t> left = Evaluate(condition.left, numbers), right = Evaluate(condition.right, numbers);
    if (left && right && Holds(condition.comparison, *left, *right)) continue;
    return InvalidArgument("the model holds only where " + ConditionText(condition, symbols) + ", and the inputs have " +
                           NumbersText({&condition.left, &condition.right}, symbols, numbers));
  }
  return {};
}

}  // namespace pqi
