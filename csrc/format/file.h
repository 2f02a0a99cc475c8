// Files: reading a model without trusting what the path names, and saving so that the target is always the old file or the new one.
#pragma once

#include <cstdint>
#include <string>

#include "base/aligned.h"
#include "base/span.h"
#include "base/status.h"

namespace pqi {

// Reads a whole file. It must be a regular one (a FIFO, socket, device or directory is refused at once, without blocking); its first bytes
// and size are checked before the rest is read. kIo (with os_error()) if the system refuses, kModelFormat if it cannot be a model.
Result<AlignedBuffer<uint8_t>> ReadModelFile(const std::string& path);

// Saves atomically: a temporary file beside the target is written, flushed, read back and renamed over it, then the directory is flushed. A
// symbolic link is followed and its referent replaced. The mode is that of the file replaced, or 0666 less the umask. On error (kIo) the
// target is untouched and no temporary file remains; those of processes that died over an hour ago are removed.
Status SaveFileAtomically(const std::string& path, Span<const uint8_t> bytes);

}  // namespace pqi
