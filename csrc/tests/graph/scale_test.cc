// Large and hostile graphs: bounded time and stack. The limits on time are the test runner's; what is checked is that the result is right.
#include <gtest/gtest.h>
#include <limits.h>
#include <pthread.h>

#include <algorithm>

#include "tests/graph/toy_model.h"

namespace pqi::test {
namespace {

std::string Chain(size_t nodes) {
  std::string values, list;
  for (size_t i = 1; i <= nodes; ++i) {
    const char* separator = i == 1 ? "" : ",";
    values += separator + F32Value("v" + std::to_string(i), "[4]");
    list += separator + NodeText("copy", "n" + std::to_string(i), std::to_string(i - 1), std::to_string(i));
  }
  return GraphText("[4]", values, list, nodes);
}

Result<LoadedModel> LoadText(const std::string& text) {
  const Result<AlignedBuffer<uint8_t>> file = WriteContainer("test", "", text, {});
  return LoadGraph(AlignedBuffer<uint8_t>::CopyOf(file.value().span()), ToyOps);
}

struct Job {
  const std::string* text;
  Code code = Code::kInternal;
  size_t nodes = 0;
};

void* LoadInThread(void* argument) {
  Job& job = *static_cast<Job*>(argument);
  const Result<LoadedModel> loaded = LoadText(*job.text);
  job.code = loaded.status().code();
  if (loaded.ok()) job.nodes = loaded.value().graph.nodes.size();
  return nullptr;
}

TEST(Scale, ALongChainLoadsOnASmallStack) {  // G17
  // Not below what a thread may have at least, which is 128 KiB on aarch64.
  const size_t stack = std::max<size_t>(64 << 10, static_cast<size_t>(PTHREAD_STACK_MIN));
  const std::string text = Chain(10'000);
  Job job{&text};
  pthread_attr_t attributes;
  ASSERT_EQ(pthread_attr_init(&attributes), 0);
  ASSERT_EQ(pthread_attr_setstacksize(&attributes, stack), 0);
  pthread_t thread;
  ASSERT_EQ(pthread_create(&thread, &attributes, LoadInThread, &job), 0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
  EXPECT_EQ(job.code, Code::kOk);
  EXPECT_EQ(job.nodes, 10'000u);
}

TEST(Scale, ALongCycleIsRefused) {  // G1
  std::string text = Chain(1000);
  text = Replaced(text, R"("inputs":[0],"outputs":[1])", R"("inputs":[1000],"outputs":[1])");
  EXPECT_EQ(LoadText(text).status().code(), Code::kModelFormat);
}

TEST(Scale, NodesAreLimited) {  // G16
  EXPECT_TRUE(LoadText(Chain(30'000)).ok());
  const Status status = LoadText(Chain(65'537)).status();
  EXPECT_EQ(status.code(), Code::kModelFormat);
  EXPECT_NE(status.message().find("tokens"), std::string::npos) << status.message();
}

TEST(Scale, AValueMayHaveTenThousandReaders) {  // G18
  constexpr size_t kReaders = 10'000;
  std::string values = F32Value("v1", "[4]"), list = NodeText("copy", "n1", "0", "1"), all;
  for (size_t i = 2; i <= kReaders; ++i) {
    values += "," + F32Value("v" + std::to_string(i), "[4]");
    list += "," + NodeText("copy", "n" + std::to_string(i), "1", std::to_string(i));
    all += (i == 2 ? "" : ",") + std::to_string(i);
  }
  values += "," + F32Value("sum", "[4]");
  list += "," + NodeText("join", "sum", all, std::to_string(kReaders + 1));
  const Result<LoadedModel> loaded = LoadText(GraphText("[4]", values, list, kReaders + 1));
  EXPECT_TRUE(loaded.ok()) << loaded.status().message();
}

// Holds G24.
TEST(Scale, SharedSubgraphsTakeLinearTime) {  // of 2^2000 paths from input to output
  std::string values, list;
  for (size_t i = 1; i <= 2000; ++i) {
    const char* separator = i == 1 ? "" : ",";
    const std::string previous = std::to_string(i - 1);
    values += separator + F32Value("v" + std::to_string(i), "[4]");
    list += separator + NodeText("join", "n" + std::to_string(i), previous + "," + previous, std::to_string(i));
  }
  EXPECT_TRUE(LoadText(GraphText("[4]", values, list, 2000)).ok());
}

}  // namespace
}  // namespace pqi::test
