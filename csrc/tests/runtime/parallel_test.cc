// The thread pool runs every part once, whatever its callers do.
#include "base/parallel.h"

#include <fenv.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "base/cpus.h"
#include "base/fork.h"
#include "base/fpenv.h"

namespace pqi::test {
namespace {

// Looks at the rounding mode by arithmetic: fegetround reads the x87 control word on x86, which is not what vector code obeys. 2^-24 is
// half a step at 1.
bool RoundsToNearest() {
  volatile float one = 1.0f, quarter_step = 0x1p-25f, most_of_a_step = 0x1.8p-24f;
  return one + quarter_step == 1.0f && -one - quarter_step == -1.0f && one + most_of_a_step == 1.0f + 0x1p-23f;
}

TEST(ParallelFor, CoversEveryElementOnce) {
  for (int threads : {1, 2, 3, 4, 7}) {
    ThreadPool pool(threads);
    for (int64_t n : {0, 1, 2, 3, 10, 1000}) {
      for (int64_t grain : {1, 3, 100, 5000}) {
        std::vector<std::atomic<int>> seen(static_cast<size_t>(n));
        ParallelFor(&pool, n, grain, [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
        });
        for (const auto& s : seen) ASSERT_EQ(s, 1) << threads << " " << n << " " << grain;
      }
    }
  }
}

TEST(ParallelFor, SplitsEvenly) {
  ThreadPool pool(4);
  std::atomic<int> ranges{0};
  std::atomic<bool> even{true};
  ParallelFor(&pool, 10, 1, [&](int64_t begin, int64_t end) {
    ++ranges;
    even = even && (end - begin == 2 || end - begin == 3);
  });
  EXPECT_EQ(ranges, 4);
  EXPECT_TRUE(even);
}

TEST(ParallelFor, WithoutAPoolRunsOnTheCaller) {
  std::thread::id id;
  ParallelFor(nullptr, 100, 1, [&](int64_t begin, int64_t end) {
    EXPECT_EQ(begin, 0);
    EXPECT_EQ(end, 100);
    id = std::this_thread::get_id();
  });
  EXPECT_EQ(id, std::this_thread::get_id());
}

TEST(ParallelFor, NestedCallsRunAndDoNotHang) {
  ThreadPool pool(3);
  std::atomic<int64_t> sum{0};
  for (int round = 0; round < 200; ++round) {
    ParallelFor(&pool, 6, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        ParallelFor(&pool, 5, 1, [&](int64_t b, int64_t e) { sum += e - b; });
      }
    });
  }
  EXPECT_EQ(sum, 200 * 6 * 5);
}

TEST(ParallelFor, ManyCallersShareAPool) {
  ThreadPool pool(3);
  std::atomic<int64_t> sum{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 6; ++c) {
    callers.emplace_back([&] {
      for (int round = 0; round < 500; ++round) ParallelFor(&pool, 9, 1, [&](int64_t b, int64_t e) { sum += e - b; });
    });
  }
  for (std::thread& t : callers) t.join();
  EXPECT_EQ(sum, 6 * 500 * 9);
}

// Threads wait awake at first and then asleep; with more threads than CPUs they sleep at once.
TEST(ThreadPool, EveryJobIsDoneHoweverLongAfterTheLast) {
  for (int threads : {2, UsableCpus(), 2 * UsableCpus() + 1}) {
    ThreadPool pool(threads);
    for (int wait_us : {0, 20, 100, 300, 2000}) {
      for (int round = 0; round < (wait_us > 0 ? 20 : 2000); ++round) {
        std::vector<std::atomic<int>> seen(static_cast<size_t>(threads));
        ParallelFor(&pool, threads, 1, [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
        });
        for (const auto& s : seen) ASSERT_EQ(s, 1) << threads << " " << wait_us;
        if (wait_us > 0) std::this_thread::sleep_for(std::chrono::microseconds(wait_us));
      }
    }
  }
}

TEST(ThreadPool, PartsOfUnequalLengthAreAllDone) {
  ThreadPool pool(2);
  for (int slow : {0, 1}) {
    std::atomic<int> done{0};
    ParallelFor(&pool, 2, 1, [&](int64_t begin, int64_t) {
      if (begin == slow) std::this_thread::sleep_for(std::chrono::milliseconds(2));  // longer than anybody waits awake
      ++done;
    });
    EXPECT_EQ(done, 2);
  }
}

TEST(CpuSet, MovesAThreadOffACpuIfThereIsAnother) {
  std::thread([] {
    const auto mask = [] {
      cpu_set_t set;
      CPU_ZERO(&set);
      EXPECT_EQ(sched_getaffinity(0, sizeof set, &set), 0);
      return set;
    };
    const CpuSet all = CpuSet::OfThisThread();
    const cpu_set_t before = mask();
    const int here = CurrentCpu();
    CpuSet elsewhere = all;
    elsewhere.Remove(here);
    elsewhere.BindThisThread();
    const cpu_set_t moved = mask();
    if (CPU_COUNT(&before) > 1) {
      EXPECT_NE(CurrentCpu(), here);
      EXPECT_EQ(CPU_COUNT(&moved), CPU_COUNT(&before) - 1);
    }
    CpuSet none = all;
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) none.Remove(cpu);
    none.BindThisThread();
    const cpu_set_t same = mask();
    EXPECT_TRUE(CPU_EQUAL(&same, &moved));
    all.BindThisThread();
    const cpu_set_t restored = mask();
    EXPECT_TRUE(CPU_EQUAL(&restored, &before));
  }).join();
}

TEST(ThreadPool, StartsAndStopsWithoutWork) {
  for (int i = 0; i < 100; ++i) ThreadPool pool(1 + i % 5);
}

TEST(ThreadPool, WorkersRoundToNearestWhateverTheirCreatorDoes) {
  ASSERT_EQ(fesetround(FE_UPWARD), 0);
  ThreadPool pool(4);
  std::atomic<int> wrong{0};
  const auto caller = std::this_thread::get_id();
  for (int round = 0; round < 50; ++round) {
    ParallelFor(&pool, 4, 1, [&](int64_t, int64_t) {
      if (std::this_thread::get_id() != caller && !RoundsToNearest()) ++wrong;
    });
  }
  EXPECT_FALSE(RoundsToNearest());  // the caller's own mode stays
  fesetround(FE_TONEAREST);
  EXPECT_EQ(wrong, 0);
}

TEST(FpEnvScope, RestoresTheCallersMode) {
  for (int mode : {FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO, FE_TONEAREST}) {
    ASSERT_EQ(fesetround(mode), 0);
    {
      const FpEnvScope scope;
      EXPECT_TRUE(RoundsToNearest());
    }
    EXPECT_EQ(RoundsToNearest(), mode == FE_TONEAREST);
  }
  fesetround(FE_TONEAREST);
}

#if !defined(__SANITIZE_THREAD__)  // a child of a threaded process is what the thread sanitizer does not support
TEST(Fork, TheChildWorksAloneAndLetsTheParentsThreadsBe) {
  auto pool = std::make_unique<ThreadPool>(4);
  ForkLocal<std::vector<int>> local;
  local.get().push_back(1);
  const auto sum_to = [&](int64_t n) {
    std::atomic<int64_t> sum{0};
    ParallelFor(pool.get(), n, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) sum += i;
    });
    return sum.load();
  };
  ASSERT_EQ(sum_to(1000), 499500);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    alarm(20);
    const bool alone = pool->threads() == 1 && sum_to(1000) == 499500 && local.get().empty();
    pool.reset();  // must not wait for threads that are not here
    _exit(alone ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(local.get().size(), 1u);
  EXPECT_EQ(sum_to(1000), 499500);
}
#endif

TEST(QuotaCpus, ReadsBothVersionsOfCgroupsAndRoundsUp) {
  namespace fs = std::filesystem;
  const fs::path folder = fs::path(testing::TempDir()) / "quota_cpus";
  fs::remove_all(folder);
  fs::create_directories(folder / "cpu");
  EXPECT_EQ(QuotaCpus(folder), 0) << "no files, no limit";
  const auto write = [&](const char* name, const char* text) { std::ofstream(folder / name) << text; };
  write("cpu/cpu.cfs_period_us", "100000\n");
  write("cpu/cpu.cfs_quota_us", "-1\n");
  EXPECT_EQ(QuotaCpus(folder), 0);
  write("cpu/cpu.cfs_quota_us", "250000\n");
  EXPECT_EQ(QuotaCpus(folder), 3);
  write("cpu.max", "50000 100000\n");
  EXPECT_EQ(QuotaCpus(folder), 1) << "version 2 goes first";
  fs::remove(folder / "cpu/cpu.cfs_quota_us");
  write("cpu.max", "max 100000\n");
  EXPECT_EQ(QuotaCpus(folder), 0);
}

TEST(UsableCpus, IsAtLeastOne) { EXPECT_GE(UsableCpus(), 1); }

}  // namespace
}  // namespace pqi::test
