// SPDX-License-Identifier: Apache-2.0
// The doctor on tiny models: healthy ones pass, and whatever is broken in a cache between prompt and decode is seen.
#include "engine/doctor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "model/tokenizer_data.h"

namespace lamina {
namespace {

TEST(Figure, TurnsWhereItsLimitsSay) {
  const auto health = [](double value, bool large) {
    return Figure{.name = "x", .value = value, .yellow = 2, .red = large ? 1 : 3, .should_be_large = large}.health();
  };
  EXPECT_EQ(health(2, false), Health::kGreen);
  EXPECT_EQ(health(2.1, false), Health::kYellow);
  EXPECT_EQ(health(3.1, false), Health::kRed);
  EXPECT_EQ(health(2, true), Health::kGreen);
  EXPECT_EQ(health(1.9, true), Health::kYellow);
  EXPECT_EQ(health(0.9, true), Health::kRed);
  EXPECT_EQ(health(NAN, false), Health::kRed);
  EXPECT_EQ(health(NAN, true), Health::kRed);
  EXPECT_EQ(Figure({.name = "x", .value = 9}).health(), Health::kGreen);
}

TEST(Findings, AreAsBadAsTheWorst) {
  const Finding finding = judged("x", {{.name = "a", .value = 1, .yellow = 2}, {.name = "b", .value = 3, .yellow = 2}});
  EXPECT_EQ(finding.health, Health::kYellow);
  const Finding findings[] = {finding, judged("y", {{.name = "c", .value = 1, .red = 0}}), judged("z", {})};
  EXPECT_EQ(worst(std::span(findings).first(1)), Health::kYellow);
  EXPECT_EQ(worst(findings), Health::kRed);
  EXPECT_EQ(worst({}), Health::kGreen);
}

class Doctor : public testing::TestWithParam<const char*> {
 protected:
  std::shared_ptr<const KvSpec> spec(const std::string& text) const {
    return std::make_shared<const KvSpec>(KvSpec::parse(text, model_.shape()));
  }
  Patient patient(const std::string& text) {
    return {.model = model_, .tokenizer = tokenizer_, .pool = pool_, .spec = spec(text), .batch = 40};
  }
  std::vector<Token> tokens(std::size_t most) const { return story_tokens(tokenizer_, most); }
  bool has_windows() const {
    return std::ranges::any_of(model_.shape().windows, [](Pos window) { return window > 0; });
  }
  std::vector<std::string> specs() const {
    std::vector<std::string> all{"full",
                                 "f32",
                                 "k8v8",
                                 "k4v4",
                                 "k4v4 + rotate",
                                 "k2v2",
                                 "kivi4(residual=32)",
                                 "streaming(sinks=2,window=40) + k8v4",
                                 "h2o(heavy=20,recent=12) + k4v4",
                                 "snapkv(keep=32,window=4) + k8v8",
                                 "pyramidinfer(keep=0.5,min=4)",
                                 "k8v8 + grid(32)"};
    if (!has_windows()) all.insert(all.end(), {"minicache(start=0) + k8v8", "map(0_0_2_2) + k4v4"});
    return all;
  }

  ThreadPool pool_{2};
  Model model_ = Model::load(std::string(LAMINA_TESTS "/golden/tiny/") + GetParam() + ".gguf", pool_);
  Tokenizer tokenizer_ = load_tokenizer(model_.file());
};

TEST_P(Doctor, FindsAHealthyModelHealthy) {
  EXPECT_EQ(check_tokenizer(tokenizer_).health, Health::kGreen) << check_tokenizer(tokenizer_).reason;
  const Finding recomputed = check_recomputation(patient("full"), tokens(40));
  EXPECT_EQ(recomputed.health, Health::kGreen) << recomputed.reason << recomputed.figures[0].value;
  const Finding increments = check_increments(patient("full"), tokens(90));
  EXPECT_EQ(increments.health, Health::kGreen) << increments.reason << increments.figures[1].value;
}

// Sums run in another order under each instruction set, so their logits are near each other and not the same.
TEST_P(Doctor, ASessionRunsOnTheKernelsThatItIsGiven) {
  const auto text = tokens(30);
  std::vector<std::vector<float>> all;
  for (const Isa isa : kAllIsas) {
    if (!supported(isa)) continue;
    Session session(model_, pool_, {.spec = spec("f32"), .context = 30, .isa = isa});
    const auto logits = session.prompt(text);
    all.emplace_back(logits.begin(), logits.end());
  }
  for (std::size_t i = 1; i < all.size(); ++i) {
    EXPECT_NE(all[i], all[0]);
    EXPECT_LT(compare_token(all[0], all[i], 0).kl, 1e-4);
  }
}

TEST_P(Doctor, SaysWhereAMethodHadNothingToDo) {
  const Trial trial = run_trial(patient("streaming(window=200)"), tokens(96), [](Session&) {});
  const Finding bytes = check_bytes(patient("streaming(window=200)"), trial);
  EXPECT_EQ(bytes.health, Health::kYellow);
  EXPECT_NE(bytes.reason.find("no row was dropped in 96 tokens"), std::string::npos) << bytes.reason;
}

TEST_P(Doctor, FindsHealthyCachesAsTheyShouldBe) {
  const auto text = tokens(96);
  for (const std::string& name : specs()) {
    SCOPED_TRACE(name);
    const Trial trial = run_trial(patient(name), text, [](Session&) {});
    EXPECT_EQ(trial.prompt, 72);
    EXPECT_EQ(trial.scores.size(), 24U);
    EXPECT_GT(trial.states.rows, 0U);
    const Finding cache = check_cache(trial), bytes = check_bytes(patient(name), trial);
    EXPECT_EQ(cache.health, Health::kGreen) << cache.reason;
    // of merged rows a plan only estimates how many are kept apart
    EXPECT_LE(bytes.health, name.starts_with("minicache") ? Health::kYellow : Health::kGreen) << bytes.reason;
    const bool is_dense = name == "full";
    if (is_dense) {
      EXPECT_EQ(check_drift(trial).figures[0].value, 0);
      EXPECT_EQ(check_drift(trial).health, Health::kGreen);
    }
    const auto is = [&](const char* term) { return name.find(term) != std::string::npos; };
    EXPECT_EQ(trial.dense_rows.has_value(),
              !is("f32") && !is("map") && !is("minicache") && !is("pyramid") && !is("grid") && !is("rotate"));
    if (trial.dense_rows) {
      EXPECT_GT(trial.dense_rows->rows, 0U);
      // Nothing is allowed in vain: codes are off by half a step here and there.
      if (name.starts_with("k")) {
        EXPECT_GT(trial.dense_rows->largest_error, 0.5);
      }
    }
  }
}

// ---- faults
// ----------------------------------------------------------------------------------------------------------

// A segment of a layer, best one in the midst, and a tile of it whose first row lives: to that one belongs a tile's
// first byte.
struct Place {
  const Segment* segment = nullptr;
  std::uint32_t tile = 0;
};
Place place(KvSequence& kv) {
  const int layers = kv.shape().layers;
  for (int i = 0; i < layers; ++i)
    for (const auto& head : kv.segments(LayerId{(layers / 2 + i) % layers}))
      for (const Segment& segment : head)
        for (std::uint32_t tile = segment.first_tile(); tile * kTileRows < segment.last; ++tile) {
          const bool dead = segment.dead != nullptr && (segment.dead[tile - segment.first_tile()] & 1U) != 0;
          if (tile * kTileRows >= segment.first && !dead) return {&segment, tile};
        }
  fail("no tile begins with a living row");
}

void flip(const BlockMemory& memory, const Plane& plane, std::uint32_t tile, std::size_t byte, unsigned bits) {
  plane.tile(memory, tile)[byte] ^= static_cast<std::byte>(bits);
}

struct Fault {
  const char* what;
  void (*inject)(Session& session);
};
const Fault kFaults[] = {
    {"the lowest bit of a key",
     [](Session& session) {
       const Place at = place(session.kv());
       flip(session.kv().memory(), at.segment->k_codes, at.tile, 0, 1);
     }},
    {"a bit of a value",
     [](Session& session) {
       const Place at = place(session.kv());
       flip(session.kv().memory(), at.segment->v_codes, at.tile, 0, 4);
     }},
    {"a scale of keys, or a key where there is none",
     [](Session& session) {
       const Place at = place(session.kv());
       const Plane& scales = at.segment->k_scales;
       flip(session.kv().memory(), scales ? scales : at.segment->k_codes, at.tile, 1, 0x10);
     }},
    {"a block of keys that is lost",
     [](Session& session) {
       const Place at = place(session.kv());
       const BlockMemory& memory = session.kv().memory();
       const Plane& plane = at.segment->k_codes;
       const BlockId block = plane.blocks[at.tile / plane.tiles_per_block - plane.first_block];
       std::memset(memory.base + block * memory.block_bytes, 0, memory.block_bytes);
     }},
    {"a wrong position",
     [](Session& session) {
       const Place at = place(session.kv());
       *const_cast<Pos*>(at.segment->pos) -= 1;  // the first of the segment: they still ascend
     }},
};

TEST_P(Doctor, SeesEveryFaultOfACache) {
  const auto text = tokens(96);
  for (const char* name : {"full", "f32", "k8v8", "k4v4", "k4v4 + rotate", "kivi4(residual=32)",
                           "streaming(sinks=2,window=40) + k8v4", "snapkv(keep=32,window=4) + k8v8"})
    for (const Fault& fault : kFaults) {
      SCOPED_TRACE(std::string(name) + ", " + fault.what);
      const Trial trial = run_trial(patient(name), text, fault.inject);
      const Finding finding = check_cache(trial);
      EXPECT_EQ(finding.health, Health::kRed) << finding.reason;
      EXPECT_GT(trial.states.different, 0U);
      EXPECT_NE(finding.reason.find("; layer "), std::string::npos) << finding.reason;
    }
}

// Rows that went without anyone's having asked.
TEST_P(Doctor, SeesDroppedRows) {
  if (has_windows()) GTEST_SKIP() << "rows outside a window cannot be had back: no truncate";
  for (const char* name : {"full", "f32"}) {  // codes cannot be had back as exact rows
    const Trial trial = run_trial(patient(name), tokens(96),
                                  [](Session& session) { session.kv().truncate(session.kv().length() - 16); });
    const Finding finding = check_cache(trial);
    EXPECT_EQ(finding.health, Health::kRed);
    EXPECT_NE(finding.reason.find("56 rows, expected 72"), std::string::npos) << finding.reason;
    EXPECT_EQ(check_bytes(patient(name), trial).health, Health::kRed);
  }
}

// Rows that are wrong in every computation alike are seen beside the dense cache.
TEST_P(Doctor, SeesRowsThatAreFarFromTheDenseOnes) {
  const auto text = tokens(64);
  for (const char* name : {"full", "k8v8", "k4v4", "kivi4(residual=32)"}) {
    Session ours(model_, pool_, {.spec = spec(name), .context = 64}),
        dense(model_, pool_, {.spec = spec("full"), .context = 64});
    ours.prompt(text);
    dense.prompt(text);
    EXPECT_EQ(compare_with_dense(ours.kv(), dense.kv()).different, 0U) << name;
    kFaults[2].inject(ours);
    const RowAudit audit = compare_with_dense(ours.kv(), dense.kv());
    EXPECT_GT(audit.different, 0U) << name;
    EXPECT_GT(audit.largest_error, 1) << name;
  }
}

// The model refuses to go on from a cache that is not finite: a finding, not the end of the work.
TEST_P(Doctor, AValueThatIsNoNumberIsRed) {
  const auto fault = [](Session& session) {
    const Place at = place(session.kv());
    std::memset(at.segment->v_codes.tile(session.kv().memory(), at.tile), 0xff, 64);
  };
  const Trial trial = run_trial(patient("full"), tokens(96), fault);
  EXPECT_NE(trial.failure.find("not finite"), std::string::npos);
  EXPECT_EQ(check_drift(trial).health, Health::kRed);
  EXPECT_NE(check_drift(trial).reason.find("not finite"), std::string::npos) << check_drift(trial).reason;
  EXPECT_EQ(check_cache(trial).health, Health::kRed);
  EXPECT_EQ(check_speed(trial, {.read_bytes = 1e10}).reason, "no step of decoding was measured");
}

TEST_P(Doctor, ExaminesAll) {
  std::vector<std::string> asked;
  const auto findings = examine(
      patient("k8v8"), {.on_check = [&](const char* check) { asked.emplace_back(check); }, .machine_seconds = 0.01});
  std::vector<std::string> checks;
  for (const Finding& finding : findings) {
    checks.push_back(finding.check);
    EXPECT_NE(finding.health, Health::kRed) << finding.reason;
    EXPECT_FALSE(finding.reason.empty());
    EXPECT_EQ(finding.health, judged("", finding.figures).health);
  }
  EXPECT_EQ(checks,
            (std::vector<std::string>{"tokenizer", "recomputation", "increments", "drift", "cache", "bytes", "speed"}));
  EXPECT_EQ(asked, (std::vector<std::string>{"tokenizer", "recomputation", "increments", "cache", "speed"}));
  const auto broken = examine(patient("k8v8"), {.after_prompt = kFaults[1].inject, .machine_seconds = 0.01});
  EXPECT_EQ(worst(broken), Health::kRed);
  EXPECT_EQ(broken[4].health, Health::kRed);
  EXPECT_THROW(examine(patient("full"), {.on_check = [](const char*) { fail("stop"); }}), Error);
}

INSTANTIATE_TEST_SUITE_P(Tiny, Doctor, testing::Values("llama-gqa", "gemma3"),
                         [](const auto& test) { return std::string(test.param).substr(0, 5); });

Trial speedy(double seconds, std::size_t bytes) {
  Trial trial;
  trial.step_seconds = seconds;
  trial.step_bytes = bytes;
  return trial;
}

TEST(DoctorSpeed, IsHeldAgainstTheMachine) {
  const MachineLimits limits{.threads = 2, .read_bytes = 1e10};
  const Finding half = check_speed(speedy(0.02, 100'000'000), limits);  // 10 ms at best
  EXPECT_EQ(half.health, Health::kGreen);
  EXPECT_NEAR(half.figures.back().value, 0.5, 1e-12);
  EXPECT_EQ(check_speed(speedy(0.06, 100'000'000), limits).health, Health::kYellow);
  EXPECT_EQ(check_speed(speedy(0.5, 100'000'000), limits).health, Health::kRed);
  const Finding tiny = check_speed(speedy(0.01, 100'000), limits);  // too short a step
  EXPECT_EQ(tiny.health, Health::kGreen);
  EXPECT_NE(tiny.reason.find("too short"), std::string::npos);
}

TEST(DoctorDrift, IsToldByPosition) {
  Trial trial;
  const auto with = [&](double early, double middle, double late) {
    trial.scores.clear();
    for (const double kl : {early, middle, late})
      trial.scores.insert(trial.scores.end(), 4, {.kl = kl, .same_top = true});
    return check_drift(trial);
  };
  EXPECT_EQ(with(0.01, 0.01, 0.02).health, Health::kGreen);
  const Finding grows = with(0.01, 0.03, 0.1);
  EXPECT_EQ(grows.health, Health::kYellow);
  EXPECT_NE(grows.reason.find("grows"), std::string::npos) << grows.reason;
  EXPECT_EQ(with(0.2, 0.2, 0.2).health, Health::kYellow);
  EXPECT_EQ(with(2, 2, 2).health, Health::kRed);
  with(0, 0, 0);
  for (std::size_t i = 0; i < 7; ++i) trial.scores[i].same_top = false;
  EXPECT_EQ(check_drift(trial).health, Health::kRed);
}

// A vocabulary without bytes cannot spell most of what there is.
TEST(DoctorTokenizer, TellsWhatAVocabularyCannotSpell) {
  TokenizerData data;
  data.source = "test";
  data.model = "llama";
  data.tokens = {"<unk>", "a", "b", "▁"};
  data.scores = {0, 0, 0, 0};
  data.types = {TokenType::kUnknown, TokenType::kNormal, TokenType::kNormal, TokenType::kNormal};
  data.unk = 0;
  const Finding finding = check_tokenizer(Tokenizer(data));
  EXPECT_EQ(finding.health, Health::kYellow);
  EXPECT_EQ(finding.reason, "the vocabulary has no tokens to spell \"English\"");
}

}  // namespace
}  // namespace lamina
