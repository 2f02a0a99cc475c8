#include "runtime/machine.h"

#include <atomic>

#include "base/text.h"
#include "runtime/self_check.h"

namespace pqi {
namespace {

// Remembers which sets are right, so that only a wrong one is checked again. There is no lock: two threads may check at once, and a fork in
// the middle leaves nothing locked.
std::string WrongKernel(const kernels::KernelSet& set) {
  static std::atomic<const kernels::KernelSet*> good[kIsaCount] = {};
  std::atomic<const kernels::KernelSet*>& known = good[static_cast<int>(set.isa)];
  if (known.load(std::memory_order_relaxed) == &set) return "";
  std::string wrong = FindWrongKernel(set);
  if (wrong.empty()) known.store(&set, std::memory_order_relaxed);
  return wrong;
}

}  // namespace

std::vector<Isa> AvailableIsas() {
  std::vector<Isa> out;
  for (int i = 0; i < kIsaCount; ++i) {  // in order of preference (base/isa.inc)
    const Isa isa = static_cast<Isa>(i);
    if (CpuSupports(isa) && kernels::GetKernelSet(isa)) out.push_back(isa);
  }
  return out;
}

Selection SelectWorking(Span<const kernels::KernelSet* const> candidates) {
  Selection selection;
  for (size_t i = candidates.size(); i-- > 1;) {
    const std::string wrong = WrongKernel(*candidates[i]);
    if (wrong.empty()) {
      selection.kernels = candidates[i];
      return selection;
    }
    selection.warning += (selection.warning.empty() ? "" : "; ") + std::string("on this machine the kernel ") + Quoted(wrong) +
                         " for instruction set " + Quoted(IsaName(candidates[i]->isa)) + " gives wrong results, so " +
                         Quoted(IsaName(candidates[i - 1]->isa)) + " is used";
  }
  selection.kernels = candidates[0];
  return selection;
}

Result<Selection> SelectKernels(const std::string& isa) {
  std::vector<const kernels::KernelSet*> candidates;
  std::string names;
  const Result<Isa> wanted = isa == "auto" ? AvailableIsas().back() : ParseIsa(isa);
  if (!wanted.ok()) return wanted.status();
  for (Isa a : AvailableIsas()) {
    candidates.push_back(kernels::GetKernelSet(a));
    if (a == wanted.value()) return SelectWorking(candidates);
    names += (names.empty() ? "" : ", ") + std::string(IsaName(a));
  }
  const char* lacking = CpuSupports(wanted.value()) ? "this build has no kernels for " : "this CPU lacks ";
  return Unsupported(lacking + Quoted(isa) + "; available: " + names);
}

std::string CompilerName() {
#if defined(__clang__)
  return "clang " + std::to_string(__clang_major__) + "." + std::to_string(__clang_minor__) + "." + std::to_string(__clang_patchlevel__);
#else
  return "gcc " + std::to_string(__GNUC__) + "." + std::to_string(__GNUC_MINOR__) + "." + std::to_string(__GNUC_PATCHLEVEL__);
#endif
}

}  // namespace pqi
