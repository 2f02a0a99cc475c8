// The kernel sets that tests run: all sets of base/isa.inc except the reference, which is the oracle, and twins of two of them.
//
// A twin is a set of the library compiled for this machine, so that its loop nests, layouts and dispatch are tested where its CPU is not
// at hand: "avxvnni_evex" is AVX-VNNI with vpdpbusd in the encoding of AVX512-VNNI, "amx_emulated" is AMX over tile registers in plain
// memory. A twin has the Isa of its original but no name that a session could ask for: a test hands the set itself to Session::Create.
#pragma once

#include <ostream>
#include <vector>

#include "base/isa.h"
#include "kernels/kernel_set.h"

namespace pqi::test {

struct TestedSet {
  const char* name;
  const kernels::KernelSet* set;
  Isa needs;  // instruction set that the CPU must have to run it
};
inline void PrintTo(const TestedSet& set, std::ostream* out) { *out << set.name; }

std::vector<TestedSet> TestedSets();
// The reference, and those of TestedSets that this CPU can run.
std::vector<TestedSet> RunnableSets();

}  // namespace pqi::test
