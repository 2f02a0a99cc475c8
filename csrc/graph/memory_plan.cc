#include "graph/memory_plan.h"

#include <algorithm>
#include <string>

#include "base/aligned.h"
#include "base/checked.h"

namespace pqi {
namespace {

// A piece of the arena: bytes that must stay untouched while nodes first..last run.
struct Block {
  size_t bytes = 0;   // above 0, a multiple of kAlignment
  size_t number = 0;  // its place in the order of execution, which decides between blocks of one size
  uint32_t first = 0, last = 0;
  size_t* offset = nullptr;  // where the answer goes
};

// Places blocks greedily by size (Pisarchyk and Lee, "Efficient memory management for deep neural net inference", 2020): the largest first,
// each into the smallest gap between the blocks already placed that live at the same time.
class Planner {
 public:
  explicit Planner(ArenaReuse reuse) : visits_left_(reuse == ArenaReuse::kReuse ? kVisits : 0) {}

  Status Place(std::vector<Block> blocks, size_t* arena_bytes) {
    std::sort(blocks.begin(), blocks.end(),
              [](const Block& a, const Block& b) { return a.bytes != b.bytes ? a.bytes > b.bytes : a.number < b.number; });
    for (const Block& block : blocks) {
      size_t offset = top_;
      if (visits_left_ >= placed_.size() && visits_left_ != 0) {
        visits_left_ -= placed_.size();
        offset = SmallestGap(block);
      }
      size_t end = 0;
      if (!CheckedAdd(offset, block.bytes, &end)) return TooLarge();
      top_ = std::max(top_, end);
      *block.offset = offset;
      placed_.push_back({block.first, block.last, offset, end});
    }
    if (!CheckedAdd(top_, kArenaSlack, arena_bytes)) return TooLarge();
    return {};
  }

  static Status TooLarge() { return InvalidArgument("the values of one run do not fit the address space"); }

 private:
  // Placing n blocks compares up to n^2/2 pairs. Networks need a few thousand; a graph made to be slow gets its smallest blocks stacked.
  static constexpr size_t kVisits = 100'000'000;

  struct Placed {
    uint32_t first, last;
    size_t begin, end;
  };

  size_t SmallestGap(const Block& block) {
    neighbours_.clear();
    for (const Placed& p : placed_) {
      if (p.first <= block.last && block.first <= p.last) neighbours_.emplace_back(p.begin, p.end);
    }
    std::sort(neighbours_.begin(), neighbours_.end());
    size_t best = SIZE_MAX, best_size = SIZE_MAX, reached = 0;
    for (const auto& [begin, end] : neighbours_) {
      if (begin > reached && begin - reached >= block.bytes && begin - reached < best_size) {
        best = reached;
        best_size = begin - reached;
      }
      reached = std::max(reached, end);
    }
    return best != SIZE_MAX ? best : reached;
  }

  size_t visits_left_;
  size_t top_ = 0;
  std::vector<Placed> placed_;
  std::vector<std::pair<size_t, size_t>> neighbours_;
};

// Adds a block of `bytes`. Where that is 0 any offset does, and there is no block.
Status AddBlock(uint64_t bytes, size_t first, size_t last, size_t* offset, std::vector<Block>* blocks) {
  *offset = 0;
  if (bytes == 0) return {};
  uint64_t aligned = 0;
  if (!CheckedAlignUp<uint64_t>(bytes, kAlignment, &aligned) || aligned > SIZE_MAX) return Planner::TooLarge();
  blocks->push_back({static_cast<size_t>(aligned), blocks->size(), static_cast<uint32_t>(first), static_cast<uint32_t>(last), offset});
  return {};
}

}  // namespace

Result<MemoryPlan> PlanMemory(const Graph& graph, Span<const ConcreteShape> shapes, Span<const Placement> placements, ArenaReuse reuse) {
  const size_t node_count = graph.nodes.size();
  if (shapes.size() != graph.values.size()) return Internal("a memory plan needs one shape per value");
  const auto owner = [&](uint32_t id) { return placements.empty() ? kNoOwner : placements[id].owner; };
  MemoryPlan plan;
  plan.value_offset.assign(graph.values.size(), kNotInArena);

  std::vector<size_t> first_use(graph.values.size(), node_count), last_use(graph.values.size(), 0);
  for (size_t n = 0; n < node_count; ++n) {
    for (uint32_t id : graph.nodes[n].inputs) last_use[id] = n;
  }
  for (const Port& output : graph.outputs) last_use[output.value] = node_count;

  std::vector<Block> blocks;
  for (size_t n = 0; n < node_count; ++n) {
    for (uint32_t id : graph.nodes[n].outputs) {
      first_use[id] = std::min(first_use[id], n);
      if (owner(id) != kNoOwner) {  // whose node comes later
        first_use[owner(id)] = std::min(first_use[owner(id)], first_use[id]);
        continue;
      }
      uint64_t bytes = 0;
      if (!CheckedByteSize(shapes[id], DTypeSize(graph.values[id].dtype), UINT64_MAX, &bytes)) return Planner::TooLarge();
      PQI_RETURN_IF_ERROR(AddBlock(bytes, first_use[id], std::max(n, last_use[id]), &plan.value_offset[id], &blocks));
    }
  }
  PQI_RETURN_IF_ERROR(Planner(reuse).Place(std::move(blocks), &plan.arena_bytes));
  for (size_t n = node_count; n-- > 0;) {
    for (uint32_t id : graph.nodes[n].outputs) {
      if (owner(id) != kNoOwner) plan.value_offset[id] = plan.value_offset[owner(id)] + placements[id].offset;
    }
  }
  return plan;
}

}  // namespace pqi
