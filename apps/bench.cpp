// SPDX-License-Identifier: Apache-2.0
// lamina bench: how fast prompts and generation are for KV specs, at several depths, as llama-bench measures them: on
// pseudo-random tokens, after a warm-up, without tokenising and sampling, and without the fill up to the depth.
#include <fmt/chrono.h>

#include <algorithm>
#include <ctime>
#include <iostream>
#include <memory>
#include <optional>
#include <random>
#include <regex>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/stopwatch.h"
#include "bench_report.h"
#include "common.h"
#include "engine/context_probe.h"

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

struct Test {
  int prompt = 0, gen = 0;  // tokens; a prompt comes first
};

struct Arguments {
  ModelArguments model;  // its file, its specs
  std::vector<int> prompts = {512}, gens = {128}, depths = {0}, batches = {512}, threads = {0}, sequences = {1};
  std::uint64_t kv_budget = 0;  // bytes; 0: `sequences` says how many
  std::vector<Test> pairs;
  int repetitions = 5;
  std::string output = "md";

  std::vector<Test> tests() const {
    std::vector<Test> tests;
    for (const int n : prompts)
      if (n > 0) tests.push_back({.prompt = n});
    for (const int n : gens)
      if (n > 0) tests.push_back({.gen = n});
    tests.insert(tests.end(), pairs.begin(), pairs.end());
    return tests;
  }
};

using Sequences = std::vector<KvSequence>;

Sequences fork(std::span<const KvSequence> all) {
  Sequences forks;
  for (const KvSequence& kv : all) forks.push_back(kv.fork());
  return forks;
}

// Bytes that decoding one more token streams from the cache: every tile of every segment, once for each layer that
// reads it, and the positions.
std::size_t bytes_read(KvSequence& kv) {
  std::size_t bytes = 0;
  for (int layer = 0; layer < kv.shape().layers; ++layer) {
    const auto heads = kv.segments(LayerId{layer});
    for (const auto& segments : heads)
      for (const Segment& s : segments) {
        const std::uint32_t first = s.first_tile(), last = first + s.range().tiles();
        for (const Plane& plane : {s.k_codes, s.v_codes, s.k_scales, s.v_scales, s.k_gains, s.v_gains})
          if (plane && first < last)
            bytes +=
                (((last - 1) >> plane.tile_shift) - (first >> plane.tile_shift) + 1) * std::size_t{plane.tile_bytes};
      }
    if (heads.empty()) continue;
    for (const Segment& s : heads.front()) bytes += s.rows() * sizeof(Pos);
  }
  return bytes;
}

// All weights once, but for keys and values of layers that read another layer's.
std::size_t bytes_read(const Weights& weights, const LayerMap& map) {
  std::size_t bytes = weights.bytes();
  for (std::size_t layer = 0; layer < weights.layers.size(); ++layer)
    if (!map.routes[layer].writes) bytes -= weights.layers[layer].k.bytes() + weights.layers[layer].v.bytes();
  return bytes;
}

std::vector<Token> random_tokens(int vocab, Pos length, unsigned seed) {
  std::mt19937 generator(seed);
  std::vector<Token> tokens(static_cast<std::size_t>(length));
  for (Token& token : tokens) token = static_cast<Token>(generator() % static_cast<unsigned>(vocab));
  return tokens;
}

class Bench {
 public:
  explicit Bench(const Arguments& args) : Bench(args, ModelFile::open(args.model.model)) {}
  void run();

 private:
  using Spec = std::shared_ptr<const KvSpec>;

  Bench(const Arguments& args, ModelFile file);
  void run(const Spec& spec);
  std::vector<int> sequence_counts(const Spec& spec) const;
  void measure(std::span<const KvSequence> start, const Test& test);
  void play(Sequences& all, const Test& test);
  void feed(KvSequence& kv, std::size_t text, Pos length, Phase last);
  void end_prompt(KvSequence& kv, std::size_t text, Pos first);
  void step(std::span<const Chunk> chunks, Phase phase);
  Chunk chunk(KvSequence& kv, std::size_t text, int tokens, Phase phase) const;
  void begin_progress(const std::string& label, std::size_t tokens);
  BenchResult describe(std::span<const KvSequence> start, const Test& test) const;

  const Arguments& args_;
  std::vector<Test> tests_;
  std::vector<int> depths_;           // ascending
  std::vector<Spec> specs_;           // checked before the weights are read
  int batch_, threads_;               // of the running test
  std::unique_ptr<ThreadPool> pool_;  // has threads_ threads
  Model model_;
  Pos longest_ = 0;                        // text of a test
  std::optional<ContextProbe> probe_;      // of specs that want one
  std::optional<BlockPool> blocks_;        // of the running spec
  std::vector<std::vector<Token>> texts_;  // [sequence][position]
  Workspace work_;
  std::optional<BenchReport> report_;
  std::optional<Progress> progress_;
  std::size_t progress_tokens_ = 0, tests_done_ = 0;
};

Bench::Bench(const Arguments& args, ModelFile file)
    : args_(args),
      tests_(args.tests()),
      depths_(args.depths),
      specs_(all_specs(args.model, kv_shape(ModelConfig::from(file)))),
      batch_(args.batches.front()),
      threads_(thread_count(args.threads.front())),
      pool_(std::make_unique<ThreadPool>(threads_)),
      model_(std::move(file), *pool_) {
  std::sort(depths_.begin(), depths_.end());
  for (const Test& test : tests_) longest_ = std::max(longest_, depths_.back() + test.prompt + test.gen);
  if (longest_ > model_.config().context)
    fmt::print(stderr,
               "bench: tests reach {} tokens, the model was trained with {}: speeds and bytes hold, texts would not\n",
               longest_, model_.config().context);
}

// How many sequences run side by side: as asked for, or as many as the budget holds at the end of the longest test.
std::vector<int> Bench::sequence_counts(const Spec& spec) const {
  if (args_.kv_budget == 0) return args_.sequences;
  int decoded = 0;
  for (const Test& test : tests_) decoded = std::max(decoded, test.gen);
  const KvPlan one = plan_kv(spec, model_.shape(), longest_ - decoded, decoded, batch_);
  require(one.steady.total() <= args_.kv_budget, "--kv-budget is {}, one sequence of {} tokens under \"{}\" takes {}",
          human_bytes(static_cast<double>(args_.kv_budget)), longest_, spec->text(),
          human_bytes(static_cast<double>(one.steady.total())));
  return {static_cast<int>(std::min<std::size_t>(args_.kv_budget / one.steady.total(), 4096))};
}

void Bench::run() {
  std::size_t width = 0;
  for (const Spec& spec : specs_) width = std::max(width, spec->text().size());
  report_.emplace(BenchModel::of(model_.file()),
                  BenchReport::Layout{.format = args_.output,
                                      .spec_width = width,
                                      .show_batch = args_.batches != std::vector<int>{512},
                                      .show_sequences = args_.kv_budget > 0 || args_.sequences != std::vector<int>{1}});
  for (const Spec& spec : specs_) run(spec);
}

// Each text is read up to each depth in turn; its prompt ends in a fork, from which the tests of that depth fork.
void Bench::run(const Spec& spec) {
  const std::vector<int> counts = sequence_counts(spec);
  const auto most = static_cast<std::size_t>(std::ranges::max(counts));
  while (texts_.size() < most)
    texts_.push_back(random_tokens(model_.config().vocab, longest_, 42 + static_cast<unsigned>(texts_.size())));
  // held at once, of each sequence: the text so far, the start of the tests and a running test
  blocks_.emplace(model_.shape(), 3 * most * most_bytes(model_.shape(), longest_), spec->widest());
  Sequences all;
  for (std::size_t i = 0; i < most; ++i) all.emplace_back(spec, model_.shape(), *blocks_);
  probe_ = spec->probes() > 0 ? std::optional(ContextProbe(model_)) : std::nullopt;
  for (const int depth : depths_) {
    if (spec->observes()) {  // of one prompt
      all.clear();
      for (std::size_t i = 0; i < most; ++i) all.emplace_back(spec, model_.shape(), *blocks_);
    }
    begin_progress(fmt::format("fill to {} of {}", depth, spec->text()),
                   most * static_cast<std::size_t>(depth - all.front().length()));
    for (std::size_t i = 0; i < most; ++i) feed(all[i], i, depth, Phase::kPrompt);
    Sequences start = fork(all);
    for (std::size_t i = 0; i < most && depth > 0; ++i) end_prompt(start[i], i, 0);
    for (const int batch : args_.batches)
      for (const int threads : args_.threads) {
        batch_ = batch;
        if (thread_count(threads) != threads_) {
          threads_ = thread_count(threads);
          pool_ = std::make_unique<ThreadPool>(threads_);
        }
        for (const int sequences : counts)
          for (const Test& test : tests_) measure(std::span(start).first(static_cast<std::size_t>(sequences)), test);
      }
  }
}

void Bench::measure(std::span<const KvSequence> start, const Test& test) {
  const Test warm_up{.prompt = std::min(test.prompt, batch_), .gen = std::min(test.gen, 1)};
  BenchResult result = describe(start, test);
  begin_progress(
      fmt::format("test {}: {} of {}", tests_done_ + 1, test_name(result), result.kv_spec),
      start.size() * (static_cast<std::size_t>(warm_up.prompt + warm_up.gen) +
                      static_cast<std::size_t>(args_.repetitions) * static_cast<std::size_t>(test.prompt + test.gen)));
  {
    Sequences all = fork(start);
    play(all, warm_up);
  }
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
  result.all_bytes_read = result.kv_bytes_read + bytes_read(model_.weights(), start.front().spec().layers);
  progress_.reset();
  report_->add(result);
  ++tests_done_;
}

BenchResult Bench::describe(std::span<const KvSequence> start, const Test& test) const {
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
          .dense_bytes = start.size() * dense_bytes(kv.shape(), kv.length() + test.prompt + test.gen)};
}

// Prompts one after the other, then a token of each sequence a step.
void Bench::play(Sequences& all, const Test& test) {
  if (test.prompt > 0)
    for (std::size_t i = 0; i < all.size(); ++i) {
      const Pos first = all[i].length();
      feed(all[i], i, first + test.prompt, probe_ ? Phase::kPrompt : Phase::kPromptEnd);
      if (probe_) end_prompt(all[i], i, first);
    }
  std::vector<Chunk> chunks;
  for (int token = 0; token < test.gen; ++token) {
    chunks.clear();
    for (std::size_t i = 0; i < all.size(); ++i) chunks.push_back(chunk(all[i], i, 1, Phase::kDecode));
    step(chunks, Phase::kDecode);
  }
}

// After the tokens of a prompt, from position `first` on.
void Bench::end_prompt(KvSequence& kv, std::size_t text, Pos first) {
  const auto prompt = std::span<const Token>(texts_[text])
                          .subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(kv.length() - first));
  const auto going_on = [] { return !interrupted(); };
  if (probe_)
    require(probe_->run(model_, *pool_, work_, kv, prompt, batch_, going_on), "interrupted after {} tests",
            tests_done_);
  kv.commit(Phase::kPromptEnd, 0, &*pool_);
}

void Bench::feed(KvSequence& kv, std::size_t text, Pos length, Phase last) {
  if (kv.length() < length) kv.expect_prompt(length - kv.length());
  while (kv.length() < length) {
    const int tokens = kv.prompt_step(length - kv.length(), batch_);
    const Phase phase = kv.length() + tokens == length ? last : Phase::kPrompt;
    const Chunk one = chunk(kv, text, tokens, phase);
    step({&one, 1}, phase);
  }
}

Chunk Bench::chunk(KvSequence& kv, std::size_t text, int tokens, Phase phase) const {
  const std::span<const Token> all = texts_[text];
  return {.kv = &kv,
          .tokens = all.subspan(static_cast<std::size_t>(kv.length()), static_cast<std::size_t>(tokens)),
          .logits = phase == Phase::kPrompt ? Chunk::Logits::kNone : Chunk::Logits::kLast,
          .prompt = phase != Phase::kDecode};
}

void Bench::step(std::span<const Chunk> chunks, Phase phase) {
  require(!interrupted(), "interrupted after {} tests", tests_done_);
  model_.forward(chunks, work_, *pool_);
  for (const Chunk& chunk : chunks) {
    chunk.kv->commit(phase, static_cast<int>(chunk.tokens.size()), &*pool_);
    progress_tokens_ += chunk.tokens.size();
  }
  progress_->update(progress_tokens_);
}

void Bench::begin_progress(const std::string& label, std::size_t tokens) {
  progress_.emplace(label, tokens);
  progress_tokens_ = 0;
}

// "512,1024", "128-512" (every number), "128-512+128", "128-8192*2".
std::vector<int> parse_list(const std::string& option, const std::string& text, int least) {
  static const std::regex kItem(R"((\d{1,7})(?:-(\d{1,7})(?:([+*])(\d{1,7}))?)?)");
  constexpr std::size_t kMostNumbers = 1000;
  std::vector<int> list;
  for (const std::string& item : CLI::detail::split(text, ',')) {
    const auto bad = [&](const std::string& why) {
      return CLI::ValidationError(option, fmt::format("\"{}\" {}", item, why));
    };
    std::smatch part;
    if (!std::regex_match(item, part, kItem))
      throw bad("is not a number of up to 7 digits, FIRST-LAST, FIRST-LAST+STEP or FIRST-LAST*FACTOR");
    const int first = std::stoi(part[1]), last = part[2].matched ? std::stoi(part[2]) : first;
    const int step = part[4].matched ? std::stoi(part[4]) : 1;
    const bool multiplies = part[3] == "*";
    if (first < least) throw bad(fmt::format("is out of range, expected numbers from {} on", least));
    if (first > last) throw bad("is empty");
    if (multiplies ? step < 2 || first == 0 : step < 1) throw bad("does not advance");
    for (std::int64_t n = first; n <= last; n = multiplies ? n * step : n + step) {
      if (list.size() == kMostNumbers) throw bad(fmt::format("is too long: more than {} numbers", kMostNumbers));
      list.push_back(static_cast<int>(n));
    }
  }
  if (list.empty()) throw CLI::ValidationError(option, "the list is empty");
  return list;
}

void add_list(CLI::App& app, const std::string& names, std::vector<int>& list, int least, const std::string& text) {
  const std::string option = names.substr(0, names.find(','));
  app.add_option_function<std::string>(
      names, [option, &list, least](const std::string& value) { list = parse_list(option, value, least); }, text);
}

}  // namespace

void add_bench(CLI::App& program) {
  auto args = std::make_shared<Arguments>();
  CLI::App* app =
      program.add_subcommand("bench", "measure prompt and generation speed; numbers may be lists a,b and ranges");
  app->footer("Ranges: FIRST-LAST, FIRST-LAST+STEP, FIRST-LAST*FACTOR. 0 leaves a kind of test out.");
  app->add_option("-m,--model", args->model.model, "model: a GGUF file or a Hugging Face folder")->required();
  add_kv_options(*app, args->model);
  add_list(*app, "-p,--n-prompt", args->prompts, 0, "tokens of a prompt (512)");
  add_list(*app, "-n,--n-gen", args->gens, 0, "tokens to generate (128)");
  add_list(*app, "-d,--n-depth", args->depths, 0, "tokens that the cache holds before (0)");
  add_list(*app, "-b,--batch-size", args->batches, 1, "most prompt tokens in one step (512)");
  add_list(*app, "-t,--threads", args->threads, 0, "threads; 0: one for each processor (0)");
  add_list(*app, "--parallel", args->sequences, 1, "-np: sequences side by side, each with a cache of its own (1)");
  app->add_option("--kv-budget", args->kv_budget,
                  "instead of --parallel: as many sequences as fit in these bytes of cache, e.g. 512MB")
      ->transform(CLI::AsSizeValue(false))
      ->excludes("--parallel");
  app->add_option_function<std::string>(
      "--prompt-gen",
      [args](const std::string& text) {
        const std::vector<int> pair = parse_list("-pg", text, 1);
        if (pair.size() != 2) throw CLI::ValidationError("-pg", "\"" + text + "\" is not PROMPT,GEN");
        args->pairs = {{.prompt = pair[0], .gen = pair[1]}};
      },
      "-pg PROMPT,GEN: a prompt and a generation timed as one");
  app->add_option("-r,--repetitions", args->repetitions, "runs of each test, after a warm-up (5)")
      ->check(CLI::Range(1, 1000));
  app->add_option("-o,--output", args->output, "md, json, jsonl or csv (md)")
      ->check(CLI::IsMember({"md", "json", "jsonl", "csv"}));
  app->callback([args] {
    if (args->tests().empty()) throw CLI::ValidationError("-p, -n", "no test is left");
    Bench(*args).run();
  });
}

}  // namespace lamina
