// SPDX-License-Identifier: Apache-2.0
// Profile: what each kind of operation of a forward pass took, and what work it was. A Workspace that has one is
// timed by the calling thread, so parallel loops count with their wall time.
#pragma once
#include <array>
#include <cstdint>
#include <optional>

#include "base/stopwatch.h"
#include "base/work.h"

namespace lamina {

enum class Op : std::uint8_t {
  kEmbed,
  kNorm,
  kQuantize,  // of the inputs of matrix products
  kQkv,
  kAppend,  // rope of the keys, and their rows and the values' as they come in
  kAttendPrompt,
  kAttendDecode,
  kOutput,
  kGateUp,
  kActivate,
  kDown,
  kAdd,
  kHead,
  kCommit,  // evict, merge, encode: by whoever commits
};
constexpr int kOps = 14;
const char* name(Op op);

class Profile {
 public:
  struct Entry {
    std::uint64_t calls = 0;
    double seconds = 0;
    Work work{};
  };

  const Entry& operator[](Op op) const { return entries_[static_cast<std::size_t>(op)]; }
  Entry& operator[](Op op) { return entries_[static_cast<std::size_t>(op)]; }
  Entry sum() const;

 private:
  std::array<Entry, kOps> entries_;
};

// One call of an operation, from construction to destruction. Without a profile nothing is asked for and nothing timed.
class Timed {
 public:
  template <class Fn>
  Timed(Profile* profile, Op op, Fn work) : entry_(profile != nullptr ? &(*profile)[op] : nullptr) {
    if (entry_ == nullptr) return;
    entry_->work += work();
    watch_.emplace();
  }
  ~Timed() {
    if (entry_ == nullptr) return;
    entry_->seconds += watch_->seconds();
    ++entry_->calls;
  }
  Timed(const Timed&) = delete;
  Timed& operator=(const Timed&) = delete;

 private:
  Profile::Entry* entry_;
  std::optional<Stopwatch> watch_;
};

}  // namespace lamina
