// State that a forked child must not share with its parent.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

namespace pqi {

// Counts the forks between the first process and this one. A child sees a larger number than its parent did; the handler that
// counts (pthread_atfork) does nothing else, so it is safe in any process.
uint64_t ForkGeneration();

// A T of this process. After a fork a mutex inside the parent's T may be held by a thread that the child does not have, so the child
// gets a fresh T and leaves the copied one untouched (its memory is given up on purpose).
template <typename T>
class ForkLocal {
 public:
  ForkLocal() : slot_(new Slot) {}
  ~ForkLocal() {
    Slot* slot = slot_.load(std::memory_order_acquire);
    if (slot->generation == ForkGeneration()) delete slot;
  }
  ForkLocal(const ForkLocal&) = delete;
  ForkLocal& operator=(const ForkLocal&) = delete;

  T& get() {
    Slot* slot = slot_.load(std::memory_order_acquire);
    if (slot->generation == ForkGeneration()) return slot->value;
    auto fresh = std::make_unique<Slot>();
    if (slot_.compare_exchange_strong(slot, fresh.get(), std::memory_order_acq_rel)) return fresh.release()->value;
    return slot->value;  // another thread of the child was first
  }

 private:
  struct Slot {
    uint64_t generation = ForkGeneration();
    T value;
  };
  std::atomic<Slot*> slot_;
};

}  // namespace pqi
