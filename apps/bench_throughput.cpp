// SPDX-License-Identifier: Apache-2.0
// lamina bench --kv-budget: how many sequences a budget of cache bytes holds under each spec, and how fast they decode
// as one batch. A sequence is admitted if its worst case fits beside what the others hold and may still grow by; at its
// prompt's end it gives back what it did not need, so heads that keep fewer rows make room for more sequences.
#include <algorithm>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/stopwatch.h"
#include "bench.h"
#include "bench_feed.h"
#include "common.h"
#include "engine/machine.h"
#include "engine/step_bytes.h"
#include "kernels/kernels.h"
#include "machine_info.h"
#include "model/tokenizer_data.h"
#include "table.h"

namespace lamina {
namespace {

using Json = nlohmann::ordered_json;
using Spec = std::shared_ptr<const KvSpec>;

struct Throughput {
  std::string spec{};
  std::size_t sequences = 0;
  double prompt_seconds = 0;                          // of all prompts
  double step_seconds = 0;                            // median
  std::size_t kv_bytes = 0, peak_bytes = 0;           // held at the end, and at most at any time
  std::size_t kv_bytes_read = 0, all_bytes_read = 0;  // by the last step
  Work work{};                                        // of a step
  Bound bound{};

  double tokens_per_second() const { return static_cast<double>(sequences) / step_seconds; }
  double bound_tokens_per_second() const { return static_cast<double>(sequences) / bound.seconds; }
};

class ThroughputBench {
 public:
  explicit ThroughputBench(const BenchArguments& args) : ThroughputBench(args, ModelFile::open(args.model.model)) {}
  void run();

 private:
  ThroughputBench(const BenchArguments& args, ModelFile file);
  void check() const;
  void read_texts();
  Feed::Text text(std::size_t sequence) const;
  Throughput measure(const Spec& spec);
  void admit(const Spec& spec, BlockPool& blocks, std::vector<KvSequence>& all, Throughput& to);
  void decode(std::vector<KvSequence>& all, Throughput& to);
  Json to_json(const Throughput& result) const;
  void print(std::span<const Throughput> results) const;
  double ratio_to_full(const Throughput& result) const;  // 0: full was not measured

  const BenchArguments& args_;
  std::vector<Spec> specs_;  // checked before the weights are read
  Pos context_;
  ThreadPool pool_;
  Model model_;
  Feed feed_;
  std::vector<Token> tokens_;
  Pos prompt_ = 0;  // tokens of each sequence before the first that is decoded
  int gen_ = 0;
  MachineLimits limits_{};
  std::optional<Progress> progress_;
  std::size_t progress_tokens_ = 0;
  std::optional<double> full_;  // tokens a second under the spec "full"
};

ThroughputBench::ThroughputBench(const BenchArguments& args, ModelFile file)
    : args_(args),
      specs_(all_specs(args.model, kv_shape(ModelConfig::from(file)))),
      context_(context_size(args.model, ModelConfig::from(file))),
      pool_(thread_count(args.threads.front())),
      model_(std::move(file), pool_),
      feed_(model_) {}

void ThroughputBench::check() const {
  require(args_.gens.size() == 1 && args_.gens.front() >= 2,
          "-n: --kv-budget decodes one number of tokens, at least 2");
  require(args_.gens.front() < context_, "-n is {}, expected less than the {} tokens of a sequence (-c)",
          args_.gens.front(), context_);
}

void ThroughputBench::read_texts() {
  if (args_.file.empty()) {  // as the other tests
    tokens_ = random_tokens(model_.config().vocab, 64 * context_, 42);
    return;
  }
  tokens_ = load_tokenizer(model_.file()).encode(read_file(args_.file), false);
  require(tokens_.size() >= static_cast<std::size_t>(context_), "{}: {} tokens, a sequence has {} (-c)", args_.file,
          tokens_.size(), context_);
}

// Each sequence goes on where the last one ended, the text beginning anew at its end.
Feed::Text ThroughputBench::text(std::size_t sequence) const {
  const auto size = static_cast<std::size_t>(context_);
  return std::span(tokens_).subspan(sequence * size % (tokens_.size() - size + 1), size);
}

void ThroughputBench::run() {
  check();
  read_texts();
  gen_ = args_.gens.front();
  prompt_ = context_ - gen_;
  feed_.use(pool_, args_.batches.front());
  limits_ = measure_machine(pool_, 0.5);
  std::vector<Throughput> results;
  for (const Spec& spec : specs_) {
    results.push_back(measure(spec));
    if (spec->text() == "full") full_ = results.back().tokens_per_second();
  }
  if (args_.output == "md") return print(results);
  Json rows = Json::array();
  for (const Throughput& result : results) rows.push_back(to_json(result));
  std::cout << rows.dump(2) << '\n';
}

Throughput ThroughputBench::measure(const Spec& spec) {
  BlockPool blocks(model_.shape(), args_.kv_budget, spec->widest());
  std::vector<KvSequence> all;
  Throughput result{.spec = spec->text()};
  admit(spec, blocks, all, result);
  decode(all, result);
  progress_.reset();
  return result;
}

void ThroughputBench::admit(const Spec& spec, BlockPool& blocks, std::vector<KvSequence>& all, Throughput& to) {
  const KvShape shape = model_.shape();
  const int batch = args_.batches.front();
  const KvPlan plan = plan_kv(spec, shape, prompt_, gen_, batch);
  const std::size_t steady = plan.steady.total(), at_prompt = plan_kv(spec, shape, prompt_, 0, batch).steady.total();
  const std::size_t growth = steady > at_prompt ? steady - at_prompt : 0, worst = std::max(plan.peak_bytes, steady);
  require(worst <= args_.kv_budget, "--kv-budget is {}, a prompt of {} tokens under \"{}\" takes up to {}",
          human_bytes(static_cast<double>(args_.kv_budget)), prompt_, spec->text(),
          human_bytes(static_cast<double>(worst)));
  progress_.emplace("prompts of " + spec->text(), args_.kv_budget / steady * static_cast<std::size_t>(prompt_));
  progress_tokens_ = 0;
  feed_.begin(*spec, [this](std::size_t tokens) {
    require(!interrupted(), "interrupted, no result");
    progress_->update(progress_tokens_ += tokens);
  });
  const Stopwatch watch;
  for (std::size_t held = 0; held + all.size() * growth + worst <= args_.kv_budget;) {
    KvSequence& kv = all.emplace_back(spec, shape, blocks);
    feed_.whole_prompt(kv, text(all.size() - 1), prompt_);
    to.peak_bytes = std::max(to.peak_bytes, held + plan.peak_bytes);
    held += kv.bytes().total();
  }
  to.prompt_seconds = watch.seconds();
  to.sequences = all.size();
}

void ThroughputBench::decode(std::vector<KvSequence>& all, Throughput& to) {
  std::vector<Feed::Text> texts;
  for (std::size_t i = 0; i < all.size(); ++i) texts.push_back(text(i));
  Profile first;  // the first step warms up and tells how much there is to do
  feed_.profile(&first);
  feed_.decode(all, texts);
  feed_.profile(nullptr);
  std::vector<double> seconds;
  for (int step = 1; step < gen_; ++step) {
    const Stopwatch watch;
    feed_.decode(all, texts);
    seconds.push_back(watch.seconds());
  }
  std::ranges::nth_element(seconds, seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2));
  to.step_seconds = seconds[seconds.size() / 2];
  for (KvSequence& kv : all) {
    to.kv_bytes += kv.bytes().total();
    to.kv_bytes_read += bytes_read(kv);
  }
  to.peak_bytes = std::max(to.peak_bytes, to.kv_bytes);
  to.all_bytes_read = to.kv_bytes_read + bytes_read(model_.weights(), all.front().spec().layers);
  to.work = first.sum().work;
  to.work.bytes = static_cast<double>(to.all_bytes_read);
  to.bound = bound(limits_, to.work);
}

double ThroughputBench::ratio_to_full(const Throughput& result) const {
  return full_ ? result.tokens_per_second() / *full_ : 0;
}

Json ThroughputBench::to_json(const Throughput& r) const {
  return {
      {"build_commit", build_commit()},
      {"cpu_info", cpu_name()},
      {"isa", name(chosen_isa())},
      {"model_filename", args_.model.model},
      {"kv_spec", r.spec},
      {"kv_budget", args_.kv_budget},
      {"n_ctx", context_},
      {"n_gen", gen_},
      {"n_threads", pool_.threads()},
      {"n_parallel", r.sequences},
      {"median_ts", r.tokens_per_second()},
      {"prompt_ts", static_cast<double>(r.sequences) * prompt_ / r.prompt_seconds},
      {"kv_bytes", r.kv_bytes},
      {"kv_peak_bytes", r.peak_bytes},
      {"kv_bytes_read", r.kv_bytes_read},
      {"all_bytes_read", r.all_bytes_read},
      {"step_f32_ops", r.work.f32_ops},
      {"step_int_ops", r.work.int_ops},
      {"bound_ts", r.bound_tokens_per_second()},
      {"bound_by", r.bound.by},
      {"of_bound", r.bound.seconds / r.step_seconds},
      {"of_full", full_ ? Json(ratio_to_full(r)) : Json(nullptr)},
      {"limits", {{"read_bytes", limits_.read_bytes}, {"f32_ops", limits_.f32_ops}, {"int8_ops", limits_.int8_ops}}}};
}

void ThroughputBench::print(std::span<const Throughput> results) const {
  fmt::print(
      "{} of cache, sequences of {} {}, the last {} decoded as one batch, {} threads; limits: {:.1f} GB/s, float32 "
      "{:.0f}, int8 {:.0f} GOP/s\n\n",
      human_bytes(static_cast<double>(args_.kv_budget)), context_,
      args_.file.empty() ? "pseudo-random tokens" : "tokens of " + args_.file, gen_, pool_.threads(),
      limits_.read_bytes * 1e-9, limits_.f32_ops * 1e-9, limits_.int8_ops * 1e-9);
  std::vector<TableRow> rows;
  for (const Throughput& r : results)
    rows.push_back({r.spec, fmt::format("{}", r.sequences), fmt::format("{:.1f}", r.tokens_per_second()),
                    full_ ? fmt::format("{:.2f}", ratio_to_full(r)) : "-",
                    fmt::format("{:.1f} ({})", r.bound_tokens_per_second(), r.bound.by),
                    fmt::format("{:.0f} %", 100 * r.bound.seconds / r.step_seconds),
                    human_bytes(static_cast<double>(r.kv_bytes)), human_bytes(static_cast<double>(r.peak_bytes)),
                    human_bytes(static_cast<double>(r.all_bytes_read))});
  print_now(markdown_table({"kv", "sequences", "t/s", "of full", "bound", "of bound", "held", "at most", "read/step"},
                           rows, 1));
}

}  // namespace

void bench_throughput(const BenchArguments& args) { ThroughputBench(args).run(); }

}  // namespace lamina
