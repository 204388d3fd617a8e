// SPDX-License-Identifier: Apache-2.0
#include "common.h"

#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <random>
#include <sstream>
#include <thread>
#include <utility>

#include "base/error.h"
#include "model/tokenizer_data.h"

namespace lamina {
namespace {

constexpr int kMostTokens = 1 << 30;

std::optional<std::uint64_t> number_of(const std::string& text) {
  std::uint64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  return error == std::errc() && rest == end ? std::optional(number) : std::nullopt;
}

std::optional<std::uint64_t> parse_seed(const std::string& text) {
  if (text == "-1") return std::nullopt;
  if (const auto seed = number_of(text)) return seed;
  throw CLI::ValidationError("--seed", "\"" + text + "\" is not a number from 0 to 2^64 - 1, nor -1 for a random one");
}

std::pair<int, float> parse_logit_bias(const std::string& text) {
  int token = 0;
  float bias = 0;
  char rest = 0;
  const char* const end = text.data() + text.size();
  const auto [number_end, error] = std::from_chars(text.data(), end, token);
  if (error != std::errc() || std::sscanf(number_end, "%f%c", &bias, &rest) != 1)
    throw CLI::ValidationError("--logit-bias", "\"" + text + "\" is not TOKEN+BIAS or TOKEN-BIAS");
  return {token, bias};
}

// CLI11 reads an empty text as the number 0.
std::string not_empty(const std::string& text) { return text.empty() ? "empty, expected a number" : ""; }

// A file name in a spec may hold a ';' between double quotes, where a backslash takes the next character as it is.
std::vector<std::string> split_specs(const std::string& text) {
  std::vector<std::string> specs(1);
  bool quoted = false, escaped = false;
  for (const char c : text) {
    if (c == ';' && !quoted) {
      specs.emplace_back();
      continue;
    }
    specs.back() += c;
    if (c == '"' && !escaped) quoted = !quoted;
    escaped = quoted && c == '\\' && !escaped;
  }
  return specs;
}

}  // namespace

void add_model_options(CLI::App& app, ModelArguments& args) {
  app.add_option("-m,--model", args.model, "model: a GGUF file or a Hugging Face folder")->required();
  app.add_option("-c,--ctx-size", args.context, "tokens of context; 0: what the model was trained with")
      ->check(CLI::Range(0, kMostTokens));
  app.add_option("-b,--batch-size", args.batch, "most prompt tokens in one step")->check(CLI::Range(1, kMostTokens));
  app.add_option("-t,--threads", args.threads, "threads; 0: one for each processor")->check(CLI::Range(0, 1024));
}

void add_kv_options(CLI::App& app, ModelArguments& args) {
  app.add_option(
      "--kv", args.specs,
      "KV cache: layers + tokens + bits, e.g. \"window(window=1020) + k8v8\", or FILE.json, a policy file of "
      "tune; where several are measured: separated by ';', or --kv again");
  app.add_option("--cache-type-k", args.cache_type_k, "-ctk: f32, f16, bf16, q8_0 or q4_0, as a bits term of --kv");
  app.add_option("--cache-type-v", args.cache_type_v, "-ctv: the same for values");
  app.add_flag("--force", args.force,
               "run layer maps that read upwards (LCKV) on a model that was not trained for them: gibberish, but speed "
               "and bytes are real");
}

void add_sampling_options(CLI::App& app, SamplingArguments& args) {
  SamplerConfig& c = args.config;
  app.add_option("-n,--predict", args.predict, "tokens to generate; -1: until the model ends")
      ->check(CLI::Range(-1, kMostTokens));
  app.add_option_function<std::string>(
      "-s,--seed", [&args](const std::string& text) { args.seed = parse_seed(text); },
      "seed of the sampler; -1: random (default)");
  const auto number = [&](const char* name, auto& value, const char* text) {
    app.add_option(name, value, text)->check(not_empty)->capture_default_str();
  };
  number("--temp", c.temperature, "temperature; 0: greedy");
  number("--top-k", c.top_k, "keep the k most likely tokens; 0: all");
  number("--top-p", c.top_p, "keep the most likely tokens of this probability; 1: all");
  number("--min-p", c.min_p, "keep tokens this likely beside the best; 0: all");
  number("--repeat-penalty", c.repeat_penalty, "1: off");
  number("--repeat-last-n", c.repeat_last_n, "tokens that penalties look back at; -1: all");
  number("--presence-penalty", c.presence_penalty, "0: off");
  number("--frequency-penalty", c.frequency_penalty, "0: off");
  app.add_option_function<std::vector<std::string>>(
      "--logit-bias",
      [&c](const std::vector<std::string>& items) {
        for (const auto& item : items) c.logit_bias.push_back(parse_logit_bias(item));
      },
      "TOKEN+BIAS or TOKEN-BIAS, e.g. 29905-inf");
  app.add_flag("--ignore-eos", args.ignore_eos, "go on after the end-of-generation token");
}

std::string needs_value(const std::string& value) { return value.empty() ? "the value is empty" : ""; }

std::uint64_t fixed_seed(const std::string& text) {
  if (const auto seed = number_of(text)) return *seed;
  throw CLI::ValidationError("--seed", "\"" + text + "\" is not a number from 0 to 2^64 - 1");
}

SamplerConfig sampler_config(const SamplingArguments& args) {
  SamplerConfig config = args.config;
  config.seed = args.seed ? *args.seed : std::random_device{}();
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
  const UpwardMaps upward = args.force ? UpwardMaps::kAny : UpwardMaps::kTrainedOnly;
  std::vector<std::shared_ptr<const KvSpec>> specs;
  for (const std::string& item : args.specs)
    for (std::string text : split_specs(item)) {
      if (!bits.empty()) {  // in place of "full", which names the other two axes' defaults as well
        text = KvSpec::parse(text, shape, upward).text();
        text =
            text.starts_with("full") ? fmt::format("{}{}", bits, text.substr(4)) : fmt::format("{} + {}", text, bits);
      }
      specs.push_back(std::make_shared<KvSpec>(KvSpec::parse(text, shape, upward)));
      if (specs.back()->layers.cyclic() && specs.back()->layers != own_layers(shape).map)
        fmt::print(stderr, "{}: the model was not trained for this map, expect gibberish\n", specs.back()->text());
    }
  return specs;
}

Loaded::Loaded(const ModelArguments& args, ModelFile file)
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
  return lamina::encode(tokenizer, text, true, with_bos);
}

std::string read_file(const std::string& path) {
  std::ifstream file;
  if (path != "-") file.open(path, std::ios::binary);
  require(path == "-" || file.is_open(), "{}: cannot open: {}", path, std::strerror(errno));
  std::ostringstream text;
  text << (path == "-" ? std::cin : file).rdbuf();
  require(!text.str().empty(), "{}: empty or cannot be read, expected a text", path == "-" ? "stdin" : path);
  return text.str();
}

void add_prompt_options(CLI::App& app, PromptArguments& args, const std::string& what) {
  const auto set = [&args](std::string PromptArguments::*text) {
    return [&args, text](const std::string& value) {
      args.*text = value;
      args.given = true;
    };
  };
  CLI::Option* prompt = app.add_option_function<std::string>("-p,--prompt", set(&PromptArguments::prompt), what);
  app.add_option_function<std::string>("-f,--file", set(&PromptArguments::file), "a file that holds it; -: stdin")
      ->excludes(prompt);
}

std::string prompt_text(const PromptArguments& args) {
  if (!args.given) throw CLI::RequiredError("--prompt or --file");
  std::string text = args.file.empty() ? args.prompt : read_file(args.file);
  require(!text.empty(), "--prompt is empty, expected a text");
  return text;
}

void print_now(std::string_view text) {
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
  require(written && std::ferror(stdout) == 0, "stdout: cannot write: {}", std::strerror(errno));
}

std::string merged_layers(const KvSpec& spec) {
  const auto& pairs = spec.minicache.pairs;
  if (pairs.empty()) return {};
  std::string text = fmt::format("{} of {} layers merged:", 2 * pairs.size(), spec.layers.routes.size());
  for (const auto& [lower, deeper] : pairs) fmt::format_to(std::back_inserter(text), " {}+{}", lower, deeper);
  return text;
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
  if (!is_due(done >= total_)) return;
  const double seconds = std::chrono::duration<double>(last_ - start_).count();
  const double rate = seconds > 0 ? static_cast<double>(done) / seconds : 0;
  const long left = rate > 0 ? std::lround(static_cast<double>(total_ - done) / rate) : 0;
  draw(fmt::format("{} {}/{}  {:.1f}/s  {}:{:02} left", label_, done, total_, rate, left / 60, left % 60));
}

void Progress::show(std::string_view text) {
  if (is_due(false)) draw(fmt::format("{} {}", label_, text));
}

bool Progress::is_due(bool last) {
  const auto now = std::chrono::steady_clock::now();
  if (!terminal_ || (!last && now - last_ < std::chrono::milliseconds(100))) return false;
  last_ = now;
  return true;
}

void Progress::draw(std::string_view text) {
  fmt::print(stderr, "\r\x1b[K{}", text);
  std::fflush(stderr);
  drawn_ = true;
}

void Progress::clear() {
  if (drawn_) fmt::print(stderr, "\r\x1b[K");
  drawn_ = false;
}

}  // namespace lamina
