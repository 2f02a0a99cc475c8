#include "runtime/machine.h"

#include "base/text.h"

namespace pqi {

std::vector<Isa> AvailableIsas() {
  std::vector<Isa> out;
  for (int i = 0; i < kIsaCount; ++i) {
    const Isa isa = static_cast<Isa>(i);
    if (CpuSupports(isa) && kernels::GetKernelSet(isa)) out.push_back(isa);
  }
  return out;
}

Result<const kernels::KernelSet*> SelectKernels(const std::string& isa) {
  const std::vector<Isa> available = AvailableIsas();
  if (isa == "auto") return kernels::GetKernelSet(available.back());
  const Result<Isa> wanted = ParseIsa(isa);
  if (!wanted.ok()) return wanted.status();
  std::string names;
  for (Isa a : available) {
    if (a == wanted.value()) return kernels::GetKernelSet(a);
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
