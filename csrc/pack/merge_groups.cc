#include "pack/merge_groups.h"

#include <cstring>

namespace pqi::pack {

kernels::ConvShape MergedShape(const kernels::ConvShape& shape, int64_t merged) {
  kernels::ConvShape s = shape;
  s.groups /= merged;
  return s;
}

std::vector<int8_t> MergedCodes(const kernels::ConvShape& s, const std::vector<int8_t>& codes, int64_t merged) {
  const int64_t inputs = s.group_inputs(), taps = s.taps();
  std::vector<int8_t> out(static_cast<size_t>(s.oc * taps * inputs * merged));
  for (int64_t o = 0; o < s.oc; ++o) {
    const int64_t place = o / s.group_outputs() % merged;  // of the channel's own group among those that become one
    for (int64_t tap = 0; tap < taps; ++tap) {
      const int64_t row = o * taps + tap;
      std::memcpy(out.data() + (row * merged + place) * inputs, codes.data() + row * inputs, static_cast<size_t>(inputs));
    }
  }
  return out;
}

}  // namespace pqi::pack
