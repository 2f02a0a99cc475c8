// Which calls of a kernel ask the cache for the weights of the next panel, and for which part of them (kernels/contract/tile.h, `ahead`).
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/contract/tile.h"

namespace pqi::conv {

// The first calls of a panel ask for the next one, each for a part: all at once they would come no faster, and keep the call's own loads
// waiting. Where the calls are too few nothing is asked for, which is faster than to ask for some.
class NextPanel {
 public:
  NextPanel(const kernels::TileShape& tile, size_t panel_bytes)
      : askers_(static_cast<int64_t>(tile.nr * tile.kr / 64)),
        panel_bytes_(panel_bytes),
        part_(askers_ > 0 ? panel_bytes / static_cast<size_t>(askers_) : 0) {}

  // For call number `call` of `calls` with the panel at w; nullptr if that one asks for nothing.
  const int8_t* Ahead(const int8_t* w, int64_t call, int64_t calls) const {
    return calls >= askers_ && call < askers_ ? w + panel_bytes_ + static_cast<size_t>(call) * part_ : nullptr;
  }

 private:
  int64_t askers_;
  size_t panel_bytes_, part_;
};

}  // namespace pqi::conv
