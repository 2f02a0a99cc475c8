#include "graph/memory_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "tests/graph/toy_model.h"

namespace pqi::test {
namespace {

struct Case {
  Graph graph;
  std::vector<ConcreteShape> shapes;
  std::vector<Placement> placements;  // one per value, or none at all
};

size_t Bytes(const Case& c, uint32_t id) {
  return static_cast<size_t>(c.shapes[id][0] * c.shapes[id][1]) * DTypeSize(c.graph.values[id].dtype);
}

// Counts how often nodes and the caller read a value.
size_t Readers(const Case& c, uint32_t id) {
  size_t readers = 0;
  for (const Node& node : c.graph.nodes) readers += static_cast<size_t>(std::count(node.inputs.begin(), node.inputs.end(), id));
  for (const Port& output : c.graph.outputs) readers += output.value == id;
  return readers;
}

// Node i reads some earlier values and writes one or two; some values are outputs.
Case RandomCase(uint32_t seed, size_t nodes, size_t reach) {
  std::mt19937 random(seed);
  Case c;
  const auto add_value = [&](bool empty) {
    Value value;
    value.dtype = random() % 2 == 0 ? DType::kF32 : DType::kU8;
    c.graph.values.push_back(value);
    c.shapes.push_back({static_cast<int64_t>(empty ? 0 : random() % 50 + 1), static_cast<int64_t>(random() % 300 + 1)});
    return static_cast<uint32_t>(c.graph.values.size() - 1);
  };
  c.graph.inputs.push_back({"x", add_value(false)});
  for (size_t n = 0; n < nodes; ++n) {
    Node node;
    const size_t known = c.graph.values.size();
    for (size_t k = random() % 3 + 1; k > 0; --k)
      node.inputs.push_back(static_cast<uint32_t>(known - 1 - random() % std::min(reach, known)));
    for (size_t k = random() % 5 == 0 ? 2 : 1; k > 0; --k) node.outputs.push_back(add_value(random() % 20 == 0));
    if (random() % 10 == 0) c.graph.outputs.push_back({"y", node.outputs[0]});
    c.graph.nodes.push_back(std::move(node));
  }
  c.graph.outputs.push_back({"last", static_cast<uint32_t>(c.graph.values.size() - 1)});
  return c;
}

// Gives values of a random graph places inside others: half of the nodes hold the inputs that only they read in their first output, at the
// end of what grows by as much. These may hold others in turn.
Case WithPlacements(Case c, uint32_t seed) {
  std::mt19937 random(seed);
  c.placements.resize(c.graph.values.size());
  for (const Node& node : c.graph.nodes) {
    if (random() % 2 == 0) continue;
    const uint32_t owner = node.outputs[0];
    size_t end = Bytes(c, owner);
    for (uint32_t id : node.inputs) {
      if (id == 0 || Readers(c, id) != 1) continue;
      c.placements[id] = {owner, end};
      end += Bytes(c, id);
    }
    c.graph.values[owner].dtype = DType::kU8;
    c.shapes[owner] = {static_cast<int64_t>(end), 1};
  }
  return c;
}

struct Region {
  size_t begin, end;
  size_t first, last;  // the nodes between which the bytes must stay
};

// Finds the first node that writes into a value or what lies inside it.
size_t FirstWriter(const Case& c, uint32_t id, size_t writer) {
  size_t first = writer;
  for (size_t n = 0; n < writer; ++n) {
    for (uint32_t inside : c.graph.nodes[n].outputs) {
      if (!c.placements.empty() && c.placements[inside].owner == id) first = std::min(first, FirstWriter(c, inside, n));
    }
  }
  return first;
}

// Every region of a plan with its lifetime, by the definition: looked up value by value, not as the planner does it. Values inside others
// are none.
std::vector<Region> Regions(const Case& c, const MemoryPlan& plan) {
  std::vector<Region> regions;
  for (size_t n = 0; n < c.graph.nodes.size(); ++n) {
    for (uint32_t id : c.graph.nodes[n].outputs) {
      if (!c.placements.empty() && c.placements[id].owner != kNoOwner) continue;
      size_t last = n;
      for (size_t m = n; m < c.graph.nodes.size(); ++m) {
        const std::vector<uint32_t>& in = c.graph.nodes[m].inputs;
        if (std::find(in.begin(), in.end(), id) != in.end()) last = m;
      }
      for (const Port& output : c.graph.outputs) {
        if (output.value == id) last = c.graph.nodes.size();
      }
      regions.push_back({plan.value_offset[id], plan.value_offset[id] + Bytes(c, id), FirstWriter(c, id, n), last});
    }
  }
  return regions;
}

void ExpectSound(const Case& c, const MemoryPlan& plan) {
  const std::vector<Region> regions = Regions(c, plan);
  for (size_t i = 0; i < regions.size(); ++i) {
    ASSERT_EQ(regions[i].begin % 64, 0u);
    ASSERT_LE(regions[i].end + kArenaSlack, plan.arena_bytes);
    for (size_t j = 0; j < i; ++j) {
      const bool both_live = regions[i].first <= regions[j].last && regions[j].first <= regions[i].last;
      const bool overlap = regions[i].begin < regions[j].end && regions[j].begin < regions[i].end;
      ASSERT_FALSE(both_live && overlap) << "regions " << i << " and " << j;
    }
  }
}

TEST(MemoryPlan, NoTwoLiveRegionsOverlapInRandomGraphs) {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    const Case c = RandomCase(seed, seed % 40 + 1, seed % 7 + 1);
    for (ArenaReuse reuse : {ArenaReuse::kReuse, ArenaReuse::kNoReuse}) {
      const Result<MemoryPlan> plan = PlanMemory(c.graph, c.shapes, {}, reuse);
      ASSERT_TRUE(plan.ok()) << plan.status().message();
      ExpectSound(c, plan.value());
      EXPECT_EQ(plan.value().value_offset[0], kNotInArena);
    }
  }
}

TEST(MemoryPlan, AValueLivesFromTheFirstNodeThatWritesIntoItOn) {
  size_t inside = 0, nested = 0;
  for (uint32_t seed = 0; seed < 300; ++seed) {
    const Case c = WithPlacements(RandomCase(seed, seed % 40 + 1, seed % 7 + 1), seed);
    for (ArenaReuse reuse : {ArenaReuse::kReuse, ArenaReuse::kNoReuse}) {
      const Result<MemoryPlan> plan = PlanMemory(c.graph, c.shapes, c.placements, reuse);
      ASSERT_TRUE(plan.ok()) << plan.status().message();
      ExpectSound(c, plan.value());
      const std::vector<size_t>& offset = plan.value().value_offset;
      for (size_t id = 0; id < offset.size(); ++id) {
        const Placement& at = c.placements[id];
        if (at.owner == kNoOwner) continue;
        EXPECT_EQ(offset[id], offset[at.owner] + at.offset);
        ++inside;
        nested += c.placements[at.owner].owner != kNoOwner;
      }
    }
  }
  EXPECT_GT(inside, 100u);
  EXPECT_GT(nested, 20u);
}

TEST(MemoryPlan, WithoutReuseNothingSharesMemoryAtAnyTime) {
  const Case c = RandomCase(7, 30, 3);
  const MemoryPlan plan = PlanMemory(c.graph, c.shapes, {}, ArenaReuse::kNoReuse).value();
  std::vector<Region> regions = Regions(c, plan);
  for (Region& region : regions) region.first = 0, region.last = 1000;
  for (size_t i = 0; i < regions.size(); ++i) {
    for (size_t j = 0; j < i; ++j) EXPECT_FALSE(regions[i].begin < regions[j].end && regions[j].begin < regions[i].end);
  }
}

// Makes a chain of n copies, all of `bytes` bytes.
Case Chain(size_t n, int64_t bytes) {
  Case c;
  for (size_t i = 0; i <= n; ++i) {
    c.graph.values.push_back({"v", DType::kU8, {}, 0});
    c.shapes.push_back({bytes, 1});
    if (i == 0) continue;
    Node node;
    node.inputs = {static_cast<uint32_t>(i - 1)};
    node.outputs = {static_cast<uint32_t>(i)};
    c.graph.nodes.push_back(node);
  }
  c.graph.inputs = {{"x", 0}};
  c.graph.outputs = {{"y", static_cast<uint32_t>(n)}};
  return c;
}

TEST(MemoryPlan, AChainNeedsTwoBuffers) {
  const Case c = Chain(10, 1000);
  EXPECT_EQ(PlanMemory(c.graph, c.shapes).value().arena_bytes, 2 * 1024 + kArenaSlack);
  EXPECT_EQ(PlanMemory(c.graph, c.shapes, {}, ArenaReuse::kNoReuse).value().arena_bytes, 10 * 1024 + kArenaSlack);
}

TEST(MemoryPlan, ABottleneckFitsUnderItsOutput) {
  // In x -> big a -> small b -> small c -> big d (which reads c and a) the arena holds a and d, and b and c where they do not meet d.
  Case c = Chain(4, 64);
  c.shapes[1] = c.shapes[4] = {64 * 100, 1};
  c.graph.nodes[3].inputs.push_back(1);
  EXPECT_EQ(PlanMemory(c.graph, c.shapes).value().arena_bytes, 64 * 201 + kArenaSlack);
}

TEST(MemoryPlan, PiecesOfAValueNeedNoMemoryOfTheirOwn) {
  // In x -> a -> b -> c, where d reads a and c and holds both, the arena holds d and b.
  Case c = Chain(4, 64);
  c.graph.nodes[3].inputs = {1, 3};
  c.graph.nodes[2].inputs = {2};
  c.graph.nodes[1].inputs = {0};
  c.shapes[4] = {128, 1};
  EXPECT_EQ(PlanMemory(c.graph, c.shapes).value().arena_bytes, 64 * 4 + kArenaSlack);
  c.placements.resize(5);
  c.placements[1] = {4, 0};
  c.placements[3] = {4, 64};
  const MemoryPlan plan = PlanMemory(c.graph, c.shapes, c.placements).value();
  EXPECT_EQ(plan.arena_bytes, 64 * 3 + kArenaSlack);
  EXPECT_EQ(plan.value_offset, (std::vector<size_t>{kNotInArena, 0, 128, 64, 0}));
}

TEST(MemoryPlan, GivesEqualPlansForEqualInput) {
  const Case c = RandomCase(3, 40, 5);
  const MemoryPlan a = PlanMemory(c.graph, c.shapes).value(), b = PlanMemory(c.graph, c.shapes).value();
  EXPECT_EQ(a.value_offset, b.value_offset);
}

// Holds G22.
TEST(MemoryPlan, RefusesWhatDoesNotFitTheAddressSpace) {  // G22
  Case c = Chain(3, 1);
  c.shapes[1] = c.shapes[2] = {int64_t{1} << 62, 3};
  EXPECT_EQ(PlanMemory(c.graph, c.shapes).status().code(), Code::kInvalidArgument);
  c.shapes[1] = c.shapes[2] = {int64_t{1} << 62, 4};
  EXPECT_EQ(PlanMemory(c.graph, c.shapes).status().code(), Code::kInvalidArgument);
}

// Above the planner's budget of comparisons, blocks are stacked; still sound, and arenas of hostile graphs are found in reasonable time.
TEST(MemoryPlan, AHugeGraphIsPlannedSoundly) {
  const Case c = Chain(60'000, 100);
  const MemoryPlan plan = PlanMemory(c.graph, c.shapes).value();
  for (size_t i = 2; i < plan.value_offset.size(); ++i) {
    ASSERT_NE(plan.value_offset[i], plan.value_offset[i - 1]);
    ASSERT_LE(plan.value_offset[i] + 128 + kArenaSlack, plan.arena_bytes);
  }
}

}  // namespace
}  // namespace pqi::test
