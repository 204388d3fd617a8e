// SPDX-License-Identifier: Apache-2.0
#include "common.h"

#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>
#include <sstream>
#include <thread>
#include <utility>

#include "base/error.h"
#include "model/tokenizer_data.h"

namespace lamina {

void add_model_options(CLI::App& app, ModelArguments& args) {
  app.add_option("-m,--model", args.model, "model file (GGUF)")->required();
  app.add_option("-c,--ctx-size", args.context, "tokens of context; 0: what the model was trained with")
      ->check(CLI::NonNegativeNumber);
  app.add_option("-b,--batch-size", args.batch, "most prompt tokens in one step")->check(CLI::PositiveNumber);
  app.add_option("-t,--threads", args.threads, "threads; 0: one for each processor")->check(CLI::Range(0, 1024));
}

void add_kv_options(CLI::App& app, ModelArguments& args) {
  app.add_option("--kv", args.specs, "KV cache: layers + tokens + bits, e.g. \"window(window=1020) + k8v8\"")
      ->delimiter(';');
  app.add_option("--cache-type-k", args.cache_type_k, "-ctk: f32, f16, bf16, q8_0 or q4_0, as a bits term of --kv");
  app.add_option("--cache-type-v", args.cache_type_v, "-ctv: the same for values");
}

void add_sampling_options(CLI::App& app, SamplingArguments& args) {
  SamplerConfig& c = args.config;
  app.add_option("-n,--predict", args.predict, "tokens to generate; -1: until the model ends")->check(CLI::Range(-1, 1 << 30));
  app.add_option("-s,--seed", args.seed, "seed of the sampler (default: random)");
  app.add_option("--temp", c.temperature, "temperature; 0: greedy")->capture_default_str();
  app.add_option("--top-k", c.top_k, "keep the k most likely tokens; 0: all")->capture_default_str();
  app.add_option("--top-p", c.top_p, "keep the most likely tokens of this probability; 1: all")->capture_default_str();
  app.add_option("--min-p", c.min_p, "keep tokens this likely beside the best; 0: all")->capture_default_str();
  app.add_option("--repeat-penalty", c.repeat_penalty, "1: off")->capture_default_str();
  app.add_option("--repeat-last-n", c.repeat_last_n, "tokens that penalties look back at; -1: all")->capture_default_str();
  app.add_option("--presence-penalty", c.presence_penalty, "0: off")->capture_default_str();
  app.add_option("--frequency-penalty", c.frequency_penalty, "0: off")->capture_default_str();
  app.add_option_function<std::vector<std::string>>(
      "--logit-bias",
      [&c](const std::vector<std::string>& items) {
        for (const auto& item : items) {
          int token = 0;
          float bias = 0;
          char rest = 0;
          if (std::sscanf(item.c_str(), "%d%f%c", &token, &bias, &rest) != 2)
            throw CLI::ValidationError("--logit-bias", "\"" + item + "\" is not TOKEN+BIAS or TOKEN-BIAS");
          c.logit_bias.emplace_back(token, bias);
        }
      },
      "TOKEN+BIAS or TOKEN-BIAS, e.g. 29905-inf");
  app.add_flag("--ignore-eos", args.ignore_eos, "go on after the end-of-generation token");
}

SamplerConfig sampler_config(const SamplingArguments& args) {
  SamplerConfig config = args.config;
  if (args.seed) {
    config.seed = *args.seed;
  } else {
    config.seed = std::random_device{}();
    if (config.temperature > 0) std::cerr << "seed: " << config.seed << '\n';
  }
  config.validate();
  return config;
}

int thread_count(int requested) {
  return requested > 0 ? requested : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

Pos context_size(const ModelArguments& args, const ModelConfig& config) {
  require(args.context <= config.context, "--ctx-size is {}, the model was trained with {} tokens of context",
          args.context, config.context);
  return args.context > 0 ? args.context : config.context;
}

std::vector<std::shared_ptr<const KvSpec>> all_specs(const ModelArguments& args, const KvShape& shape) {
  std::string bits;
  if (!args.cache_type_k.empty() || !args.cache_type_v.empty())
    bits = bits_from_cache_types(args.cache_type_k.empty() ? "f16" : args.cache_type_k,
                                 args.cache_type_v.empty() ? "f16" : args.cache_type_v);
  std::vector<std::shared_ptr<const KvSpec>> specs;
  for (const std::string& text : args.specs) {
    const bool plain = text == "full" || bits.empty();
    specs.push_back(std::make_shared<KvSpec>(
        KvSpec::parse(plain ? (bits.empty() ? text : bits) : text + " + " + bits, shape)));
  }
  return specs;
}

Loaded::Loaded(const ModelArguments& args, GgufFile file)
    : pool(thread_count(args.threads)),
      specs(all_specs(args, kv_shape(ModelConfig::from(file)))),
      context(context_size(args, ModelConfig::from(file))),
      model(std::move(file), pool),
      tokenizer(load_tokenizer(model.file())) {}

const std::shared_ptr<const KvSpec>& Loaded::spec() const {
  require(specs.size() == 1, "--kv has {} specs, expected one", specs.size());
  return specs.front();
}

std::vector<Token> Loaded::encode(std::string_view text, bool with_bos) const {
  std::vector<Token> tokens = tokenizer.encode(text, true);
  if (with_bos && tokenizer.add_bos() && tokenizer.bos() && (tokens.empty() || tokens.front() != *tokenizer.bos()))
    tokens.insert(tokens.begin(), *tokenizer.bos());
  return tokens;
}

std::string read_file(const std::string& path) {
  if (path == "-") return {std::istreambuf_iterator<char>(std::cin), {}};
  std::ifstream in(path, std::ios::binary);
  require(in.good(), "{}: cannot open", path);
  std::ostringstream text;
  text << in.rdbuf();
  require(!in.bad() && !text.str().empty(), "{}: the file is empty or cannot be read", path);
  return text.str();
}

std::string prompt_text(const std::string& prompt, const std::string& file) {
  require(prompt.empty() || file.empty(), "give a prompt with -p or with -f, not both");
  std::string text = file.empty() ? prompt : read_file(file);
  require(!text.empty(), "no prompt: give one with -p TEXT or -f FILE");
  return text;
}

std::size_t dense_bytes(const KvShape& shape, Pos length) {
  return plan_kv(std::make_shared<KvSpec>(KvSpec::parse("full", shape)), shape, length, 0, 512).steady.total();
}

std::string human_bytes(double bytes) {
  const char* unit = "B";
  for (const char* next : {"KiB", "MiB", "GiB", "TiB"})
    if (bytes >= 1024) {
      bytes /= 1024;
      unit = next;
    }
  return fmt::format("{:.{}f} {}", bytes, *unit == 'B' ? 0 : 1, unit);
}

std::atomic<bool>& interrupted() {
  static std::atomic<bool> flag{false};
  return flag;
}

void catch_interrupts() {
  struct sigaction action {};
  action.sa_handler = [](int) { interrupted() = true; };
  action.sa_flags = static_cast<int>(SA_RESETHAND);  // a second Ctrl-C ends the program; no SA_RESTART: reads return
  ::sigaction(SIGINT, &action, nullptr);
}

Progress::Progress(std::string label, std::size_t total)
    : label_(std::move(label)),
      total_(total),
      terminal_(::isatty(STDERR_FILENO) != 0),
      start_(std::chrono::steady_clock::now()) {}

void Progress::update(std::size_t done) {
  const auto now = std::chrono::steady_clock::now();
  if (!terminal_ || (done < total_ && now - last_ < std::chrono::milliseconds(100))) return;
  last_ = now;
  const double seconds = std::chrono::duration<double>(now - start_).count();
  const double rate = seconds > 0 ? static_cast<double>(done) / seconds : 0;
  const int left = rate > 0 ? static_cast<int>(static_cast<double>(total_ - done) / rate + 0.5) : 0;
  fmt::print(stderr, "\r\x1b[K{} {}/{}  {:.1f}/s  {}:{:02} left", label_, done, total_, rate, left / 60, left % 60);
  std::fflush(stderr);
  drawn_ = true;
}

void Progress::clear() {
  if (drawn_) fmt::print(stderr, "\r\x1b[K");
  drawn_ = false;
}

}  // namespace lamina
