// Loads whatever the fuzzer makes up as a file.
#include "fuzz/load.h"
#include "fuzz/target.h"

void pqi::fuzz::One(const uint8_t* data, size_t size) { Load(AlignedBuffer<uint8_t>::CopyOf({data, size})); }
