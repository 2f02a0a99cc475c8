// Every kernel set that tests run: those of base/isa.inc but the reference, which is the oracle, and twins.
//
// A twin is a set of the library compiled for this machine, so that its loop nests, layouts and dispatch are tested where its CPU is not
// at hand: "avxvnni_evex" is AVX-VNNI with vpdpbusd in the encoding of AVX512-VNNI, "amx_emulated" is AMX over tile registers in plain
// memory. A twin has the Isa of its original, but no name that a session could ask for: a test hands the set itself to Session::Create.
#pragma once

#include <ostream>
#include <vector>

#include "base/isa.h"
#include "kernels/kernel_set.h"

namespace pqi::test {

struct TestedSet {
  const char* name;
  const kernels::KernelSet* set;
  Isa needs;  // what the CPU must have
};
inline void PrintTo(const TestedSet& set, std::ostream* out) { *out << set.name; }

std::vector<TestedSet> TestedSets();
// The reference, and those of TestedSets that this CPU can run.
std::vector<TestedSet> RunnableSets();

}  // namespace pqi::test
