// What the targets of files and of graphs do with a file.
#pragma once

#include "base/aligned.h"

namespace pqi::fuzz {

// Loads a file and asks for everything that does not need a run.
void Load(AlignedBuffer<uint8_t> file);

}  // namespace pqi::fuzz
