// SPDX-License-Identifier: Apache-2.0
// lamina bench: how fast prompts and generation are for KV specs, at several depths, as llama-bench measures them: on
// pseudo-random tokens, after a warm-up, without tokenising and sampling, and without the fill up to the depth.
#include "bench.h"

#include <fmt/chrono.h>

#include <algorithm>
#include <ctime>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/stopwatch.h"
#include "bench_feed.h"
#include "bench_profile.h"
#include "bench_report.h"
#include "common.h"
#include "engine/step_bytes.h"

namespace lamina {
namespace {

constexpr std::string_view kFormatNames[kFormats] = {"f32",   "f16",   "bf16",     "int8",    "int4",
                                                     "asym4", "asym2", "channel4", "channel2"};

std::string type_of(const KvSpec& spec, Format SlotSpec::*format) {
  const auto differs = [&](const SlotSpec& slot) { return slot.*format != spec.slots.front().*format; };
  return std::ranges::any_of(spec.slots, differs)
             ? "mixed"
             : std::string(kFormatNames[static_cast<std::size_t>(spec.slots.front().*format)]);
}

using Sequences = std::vector<KvSequence>;

Sequences fork(std::span<const KvSequence> all) {
  Sequences forks;
  for (const KvSequence& kv : all) forks.push_back(kv.fork());
  return forks;
}

class Bench {
 public:
  explicit Bench(const BenchArguments& args) : Bench(args, ModelFile::open(args.model.model)) {}
  void run();

 private:
  using Spec = std::shared_ptr<const KvSpec>;

  Bench(const BenchArguments& args, ModelFile file);
  void run(const Spec& spec);
  void measure(std::span<const KvSequence> start, const BenchTest& test);
  void play(Sequences& all, const BenchTest& test);
  const MachineLimits& limits();
  void begin_progress(const std::string& label, std::size_t tokens);
  BenchResult describe(std::span<const KvSequence> start, const BenchTest& test) const;

  const BenchArguments& args_;
  std::vector<BenchTest> tests_;
  std::vector<int> depths_;           // ascending
  std::vector<Spec> specs_;           // checked before the weights are read
  int batch_, threads_;               // of the running test
  std::unique_ptr<ThreadPool> pool_;  // has threads_ threads
  Model model_;
  Pos longest_ = 0;                        // text of a test
  std::optional<BlockPool> blocks_;        // of the running spec
  std::vector<std::vector<Token>> texts_;  // [sequence][position]
  Feed feed_;
  std::optional<BenchReport> report_;
  std::optional<ProfileReport> profiles_;  // one of the two
  std::map<int, MachineLimits> limits_;    // of profiles, [threads]
  std::optional<Progress> progress_;
  std::size_t progress_tokens_ = 0, tests_done_ = 0;
};

Bench::Bench(const BenchArguments& args, ModelFile file)
    : args_(args),
      tests_(args.tests()),
      depths_(args.depths),
      specs_(all_specs(args.model, kv_shape(ModelConfig::from(file)))),
      batch_(args.batches.front()),
      threads_(thread_count(args.threads.front())),
      pool_(std::make_unique<ThreadPool>(threads_)),
      model_(std::move(file), *pool_),
      feed_(model_) {
  std::sort(depths_.begin(), depths_.end());
  for (const BenchTest& test : tests_) longest_ = std::max(longest_, depths_.back() + test.prompt + test.gen);
  if (longest_ > model_.config().context)
    fmt::print(stderr,
               "bench: tests reach {} tokens, the model was trained with {}: speeds and bytes hold, texts would not\n",
               longest_, model_.config().context);
}

void Bench::run() {
  std::size_t width = 0;
  for (const Spec& spec : specs_) width = std::max(width, spec->text().size());
  if (args_.profile)
    profiles_.emplace(BenchModel::of(model_.file()), args_.output);
  else
    report_.emplace(BenchModel::of(model_.file()),
                    BenchReport::Layout{.format = args_.output,
                                        .spec_width = width,
                                        .show_batch = args_.batches != std::vector<int>{512},
                                        .show_sequences = args_.sequences != std::vector<int>{1}});
  for (const Spec& spec : specs_) run(spec);
  if (profiles_) profiles_->finish();
}

// Each text is read up to each depth in turn; its prompt ends in a fork, from which the tests of that depth fork.
void Bench::run(const Spec& spec) {
  const auto most = static_cast<std::size_t>(std::ranges::max(args_.sequences));
  while (texts_.size() < most)
    texts_.push_back(random_tokens(model_.config().vocab, longest_, 42 + static_cast<unsigned>(texts_.size())));
  // held at once, of each sequence: the text so far, the start of the tests and a running test
  blocks_.emplace(model_.shape(), 3 * most * most_bytes(model_.shape(), longest_), spec->widest());
  Sequences all;
  for (std::size_t i = 0; i < most; ++i) all.emplace_back(spec, model_.shape(), *blocks_);
  feed_.begin(*spec, [this](std::size_t tokens) {
    require(!interrupted(), "interrupted after {} tests", tests_done_);
    progress_->update(progress_tokens_ += tokens);
  });
  feed_.use(*pool_, batch_);
  for (const int depth : depths_) {
    if (spec->observes()) {  // of one prompt
      all.clear();
      for (std::size_t i = 0; i < most; ++i) all.emplace_back(spec, model_.shape(), *blocks_);
    }
    begin_progress(fmt::format("fill to {} of {}", depth, spec->text()),
                   most * static_cast<std::size_t>(depth - all.front().length()));
    for (std::size_t i = 0; i < most; ++i) feed_.prompt(all[i], texts_[i], depth, Phase::kPrompt);
    Sequences start = fork(all);
    for (std::size_t i = 0; i < most && depth > 0; ++i) feed_.end_prompt(start[i], texts_[i], 0);
    for (const int batch : args_.batches)
      for (const int threads : args_.threads) {
        batch_ = batch;
        if (thread_count(threads) != threads_) {
          threads_ = thread_count(threads);
          pool_ = std::make_unique<ThreadPool>(threads_);
        }
        feed_.use(*pool_, batch_);
        for (const int sequences : args_.sequences)
          for (const BenchTest& test : tests_)
            measure(std::span(start).first(static_cast<std::size_t>(sequences)), test);
      }
  }
}

void Bench::measure(std::span<const KvSequence> start, const BenchTest& test) {
  const BenchTest warm_up{.prompt = std::min(test.prompt, batch_), .gen = std::min(test.gen, 1)};
  BenchResult result = describe(start, test);
  begin_progress(
      fmt::format("test {}: {} of {}", tests_done_ + 1, test_name(result), result.kv_spec),
      start.size() * (static_cast<std::size_t>(warm_up.prompt + warm_up.gen) +
                      static_cast<std::size_t>(args_.repetitions) * static_cast<std::size_t>(test.prompt + test.gen)));
  {
    Sequences all = fork(start);
    play(all, warm_up);
  }
  Profile profile;
  if (profiles_) feed_.profile(&profile);
  for (int i = 0; i < args_.repetitions; ++i) {
    Sequences all = fork(start);
    const Stopwatch watch;
    play(all, test);
    result.seconds.push_back(watch.seconds());
    result.kv_bytes = result.kv_bytes_read = 0;
    for (KvSequence& kv : all) {
      result.kv_bytes += kv.bytes().total();
      result.kv_bytes_read += bytes_read(kv);
    }
  }
  feed_.profile(nullptr);
  result.all_bytes_read = result.kv_bytes_read + bytes_read(model_.weights(), start.front().spec().layers);
  progress_.reset();
  if (profiles_)
    profiles_->add({.result = result, .profile = profile, .limits = limits()});
  else
    report_->add(result);
  ++tests_done_;
}

BenchResult Bench::describe(std::span<const KvSequence> start, const BenchTest& test) const {
  const KvSequence& kv = start.front();
  return {.kv_spec = kv.spec().text(),
          .type_k = type_of(kv.spec(), &SlotSpec::k),
          .type_v = type_of(kv.spec(), &SlotSpec::v),
          .batch = batch_,
          .threads = threads_,
          .sequences = static_cast<int>(start.size()),
          .prompt = test.prompt,
          .gen = test.gen,
          .depth = kv.length(),
          .time = fmt::format("{:%FT%TZ}", fmt::gmtime(std::time(nullptr))),
          .dense_bytes = start.size() * dense_bytes(kv.shape(), kv.length() + test.prompt + test.gen).total()};
}

// Prompts one after the other, then a token of each sequence a step.
void Bench::play(Sequences& all, const BenchTest& test) {
  if (test.prompt > 0)
    for (std::size_t i = 0; i < all.size(); ++i) feed_.whole_prompt(all[i], texts_[i], all[i].length() + test.prompt);
  const std::vector<Feed::Text> texts(texts_.begin(), texts_.end());
  for (int token = 0; token < test.gen; ++token) feed_.decode(all, texts);
}

// What the machine can do with this test's threads.
const MachineLimits& Bench::limits() {
  const auto [found, is_new] = limits_.try_emplace(threads_);
  if (is_new) found->second = measure_machine(*pool_, 0.5);
  return found->second;
}

void Bench::begin_progress(const std::string& label, std::size_t tokens) {
  progress_.emplace(label, tokens);
  progress_tokens_ = 0;
}

}  // namespace

void bench_model(const BenchArguments& args) { Bench(args).run(); }

}  // namespace lamina
