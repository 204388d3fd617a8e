// SPDX-License-Identifier: Apache-2.0
// The process's memory follows what a sequence says that it holds: what a prompt's commit frees goes back to the
// system.
#include <gtest/gtest.h>
#include <malloc.h>
#include <unistd.h>

#include <fstream>
#include <memory>

#include "kv/sequence.h"
#include "stored_rows.h"

namespace lamina {
namespace {

#ifdef LAMINA_SANITIZED
constexpr bool kExactHeap = false;  // freed memory is kept for a while
#else
constexpr bool kExactHeap = true;
#endif

std::size_t resident_bytes() {
  std::size_t all = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> all >> resident;
  return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

TEST(Memory, ResidentBytesFollowWhatIsHeld) {
  if (!kExactHeap) GTEST_SKIP() << "under a sanitizer";
  const KvShape shape{.layers = 30, .kv_heads = 3, .head_dim = 64, .query_group = 3, .windows = {}};
  const int prompt = 8192, batch = 512;
  std::mt19937 random(1);
  const std::vector<float> x = random_floats(random, area(batch, 3 * 64));
  for (const char* text : {"full", "snapkv(keep=512)", "k4v4 + rotate", "kivi4", "h2o(heavy=0.125,recent=0.125) + k8v8",
                           "fastgen", "streaming(window=512) + k4v4 + grid(512)"}) {
    const auto spec = std::make_shared<const KvSpec>(KvSpec::parse(text, shape));
    BlockPool pool(shape, most_bytes(shape, prompt + 100), spec->widest());
    ::malloc_trim(0);
    const std::size_t before = resident_bytes();
    KvSequence kv(spec, shape, pool);
    const auto step = [&](Phase phase, int tokens) {
      for (int layer = 0; layer < shape.layers; ++layer) {
        kv.append(LayerId{layer}, kv.length(), tokens, x.data(), x.data());
        kv.observe(LayerId{layer}, tokens, phase != Phase::kDecode);
      }
      const std::vector<TokenClass> classes(static_cast<std::size_t>(tokens), TokenClass::kOther);
      if (kv.wants_classes()) kv.note_classes(kv.length(), classes);
      kv.commit(phase, tokens);
    };
    kv.expect_prompt(prompt);
    for (int done = 0; done < prompt; done += batch)
      step(done + batch == prompt ? Phase::kPromptEnd : Phase::kPrompt, batch);
    const auto held = static_cast<double>(kv.bytes().total());
    // beside the rows there are lists of segments and of the pool, whatever the length
    EXPECT_NEAR(static_cast<double>(resident_bytes() - before), held, 0.05 * held + (1 << 20)) << text;
  }
}

}  // namespace
}  // namespace lamina
