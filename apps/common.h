// SPDX-License-Identifier: Apache-2.0
// What the subcommands share: options with the names that users of llama.cpp know, loading, figures, progress.
#pragma once
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"
#include "engine/session.h"
#include "model/forward.h"
#include "text/sampler.h"
#include "text/tokenizer.h"

namespace lamina {

struct ModelArguments {
  std::string model;
  int context = 0;  // 0: what the model was trained with
  int batch = 512;
  int threads = 0;                            // 0: the number of processors
  std::vector<std::string> specs = {"full"};  // as given: one item may hold several
  std::string cache_type_k, cache_type_v;
  bool force = false;  // run maps that read upwards on a model that was not trained for them
};
void add_model_options(CLI::App& app, ModelArguments& args);
void add_kv_options(CLI::App& app, ModelArguments& args);

struct SamplingArguments {
  SamplerConfig config;
  std::optional<std::uint64_t> seed;  // none: random
  int predict = -1;                   // -1: until the end of generation or of the context
  bool ignore_eos = false;
};
void add_sampling_options(CLI::App& app, SamplingArguments& args);
// A check of options that are off when they are not given: an empty value, a shell variable that was never set, is not
// the same as none.
std::string needs_value(const std::string& value);
// Of what is the same in every run. What is no number from 0 to 2^64 - 1 is a wrong command line.
std::uint64_t fixed_seed(const std::string& text);
// With a seed: the given one or a random one.
SamplerConfig sampler_config(const SamplingArguments& args);

int thread_count(int requested);
Pos context_size(const ModelArguments& args, const ModelConfig& config);
// The specs of --kv (given more than once, or joined by ';' outside double quotes) with -ctk and -ctv. Error if they do
// not fit the model.
std::vector<std::shared_ptr<const KvSpec>> all_specs(const ModelArguments& args, const KvShape& shape);

// A model ready to run. Arguments are checked before the weights are read.
struct Loaded {
  explicit Loaded(const ModelArguments& args) : Loaded(args, ModelFile::open(args.model)) {}

  ThreadPool pool;
  std::vector<std::shared_ptr<const KvSpec>> specs;
  Pos context;
  Model model;
  Tokenizer tokenizer;

  const std::shared_ptr<const KvSpec>& spec() const;  // Error if there are several
  std::vector<Token> encode(std::string_view text, bool with_bos) const;

 private:
  Loaded(const ModelArguments& args, ModelFile file);
};

struct PromptArguments {
  std::string prompt, file;
  bool given = false;
};
void add_prompt_options(CLI::App& app, PromptArguments& args, const std::string& what);
// The text of -p or of -f FILE. Error if neither was given or it is empty.
std::string prompt_text(const PromptArguments& args);
std::string read_file(const std::string& path);  // "-": stdin. Error if it is empty

// Writes and flushes. Error if stdout does not take it, a full disk for one.
void print_now(std::string_view text);

// Which layers a spec merges, "14 of 30 layers merged: 15+16 17+18 …"; empty if none.
std::string merged_layers(const KvSpec& spec);

std::string human_bytes(double bytes);  // "12.3 MiB"

// True after Ctrl-C; the first one is for the running command to end cleanly, the second kills.
std::atomic<bool>& interrupted();
void catch_interrupts();

// "label 12/80 3.4/s 0:20 left" on stderr when that is a terminal; nothing otherwise.
class Progress {
 public:
  Progress(std::string label, std::size_t total);
  ~Progress() { clear(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void update(std::size_t done);
  void show(std::string_view text);  // a line of the caller's own
  void clear();

 private:
  bool is_due(bool last);
  void draw(std::string_view text);

  std::string label_;
  std::size_t total_;
  bool terminal_, drawn_ = false;
  std::chrono::steady_clock::time_point start_, last_{};
};

// Each adds its subcommand to the program.
void add_run(CLI::App& program);
void add_chat(CLI::App& program);
void add_plan(CLI::App& program);
void add_bench(CLI::App& program);
void add_compare(CLI::App& program);
void add_eval(CLI::App& program);
void add_doctor(CLI::App& program);
void add_search(CLI::App& program);
void add_tune(CLI::App& program);
void add_tokenize(CLI::App& program);
void add_profile(CLI::App& program);
void add_convert(CLI::App& program);

}  // namespace lamina
