// Ops by name.
#include "ops/families.h"

namespace pqi::ops {
namespace {

const Op* const kOps[] = {
#define PQI_OP(op, file) &op,
#include "ops/list.inc"
#undef PQI_OP
};

}  // namespace

const Op* FindOp(const std::string& name) {
  for (const Op* op : kOps) {
    if (name == op->def.name) return op;
  }
  return nullptr;
}

const OpDef* FindOpDef(const std::string& name) {
  const Op* op = FindOp(name);
  return op ? &op->def : nullptr;
}

Span<const Op* const> AllOps() { return {kOps, sizeof kOps / sizeof *kOps}; }

}  // namespace pqi::ops
