// SPDX-License-Identifier: Apache-2.0
// lamina chat: a conversation in the model's own template. Each turn's end is a prompt end over the kept and the new
// rows: earlier turns are not read again.
#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "common.h"
#include "generate.h"
#include "model/tokenizer_data.h"
#include "text/chat_template.h"

namespace lamina {
namespace {

// "8", or "4 to 16" where layers differ.
std::string bits_of(const KvSpec& spec, Format SlotSpec::*format) {
  int least = 32, most = 0;
  for (const SlotSpec& slot : spec.slots) {
    least = std::min(least, bits(slot.*format));
    most = std::max(most, bits(slot.*format));
  }
  return least == most ? fmt::format("{}", least) : fmt::format("{} to {}", least, most);
}

using nlohmann::ordered_json;

struct Arguments {
  ModelArguments model;
  SamplingArguments sampling;
  PromptArguments prompt;
  std::string system, template_file;
};

std::string template_source(const Arguments& args, const ModelFile& file) {
  if (!args.template_file.empty()) return read_file(args.template_file);
  std::string text = chat_template(file);
  require(!text.empty(),
          "{}: the model has no chat template (tokenizer.chat_template): use `lamina run`, or --chat-template-file",
          file.path());
  return text;
}

class Conversation {
 public:
  Conversation(const Arguments& args, Loaded& loaded)
      : args_(args),
        loaded_(loaded),
        template_(template_source(args, loaded.model.file()), piece(loaded.tokenizer.bos()),
                  piece(loaded.tokenizer.eos())),
        session_(loaded.model, loaded.pool,
                 {.spec = loaded.spec(), .context = loaded.context, .batch = args.model.batch}),
        generator_(session_, loaded.tokenizer, sampler_config(args.sampling)) {
    reset();
  }

  void reset() {
    messages_ = ordered_json::array();
    if (!args_.system.empty()) messages_.push_back({{"role", "system"}, {"content", args_.system}});
    forget_cache();
  }

  // The next turn reads the whole conversation anew.
  void forget_cache() {
    fed_.clear();
    generator_.restart();
  }

  void turn(const std::string& text) {
    ordered_json messages = messages_;
    messages.push_back({{"role", "user"}, {"content", text}});
    const std::string whole = template_.render(messages, nullptr, true);
    if (!fed_.empty() && !whole.starts_with(fed_)) {
      std::cerr << "[the template changes earlier turns: reading the conversation anew]\n";
      forget_cache();
    }
    // The template spells BOS out where the model wants one.
    if (!generator_.prompt(loaded_.tokenizer.encode(std::string_view(whole).substr(fed_.size()), true)))
      return forget_cache();  // Ctrl-C: the conversation is as before this turn
    const std::string answer = generator_.generate(args_.sampling, print_now);
    print_now("\n");
    messages.push_back({{"role", "assistant"}, {"content", answer}});
    messages_ = std::move(messages);
    fed_ = whole + answer;
  }

  void show_cache() const;
  void report() const { generator_.report(stderr); }

 private:
  std::string piece(std::optional<Token> token) const {
    return token ? std::string(loaded_.tokenizer.piece(*token)) : std::string();
  }

  const Arguments& args_;
  Loaded& loaded_;
  ChatTemplate template_;
  Session session_;
  Generator generator_;
  ordered_json messages_;
  std::string fed_;  // the text that the cache holds
};

void Conversation::show_cache() const {
  const KvSequence& kv = session_.kv();
  const KvBytes bytes = kv.bytes();
  const KvShape& shape = kv.shape();
  const auto dense = static_cast<double>(dense_bytes(shape, kv.length()).total());
  std::cout << fmt::format(
      "kv      {}\n"
      "layers  {} of {} hold rows\n"
      "tokens  {} in the text, {:.1f} % of their rows kept\n"
      "bits    {} for keys, {} for values\n"
      "bytes   {} = rows {} + scales {} + gains {} + positions {} + mass {} + slack {}\n"
      "ratio   {:.2f} to dense f16 at this length; {:.2f} at most so far\n",
      kv.spec().text(), kv.spec().layers.slots(), shape.layers, kv.length(), 100 * kv.kept_fraction(),
      bits_of(kv.spec(), &SlotSpec::k), bits_of(kv.spec(), &SlotSpec::v), bytes.total(), bytes.rows, bytes.scales,
      bytes.gains, bytes.positions, bytes.mass, bytes.slack,
      bytes.total() ? dense / static_cast<double>(bytes.total()) : 1.0,
      session_.peak_bytes() ? dense / static_cast<double>(session_.peak_bytes()) : 1.0);
}

// One message: a line, lines that end in a backslash, or lines between two """.
std::optional<std::string> read_message(bool terminal) {
  std::string text, line;
  bool quoted = false;
  for (;;) {
    if (terminal) std::cerr << (text.empty() && !quoted ? "> " : ". ") << std::flush;
    if (!std::getline(std::cin, line)) return text.empty() ? std::nullopt : std::optional(text);
    if (line == "\"\"\"") {
      if (quoted) return text.substr(0, text.empty() ? 0 : text.size() - 1);  // the last line's end is the quotes'
      quoted = true;
    } else if (quoted) {
      text += line + "\n";
    } else if (line.ends_with('\\')) {
      text += line.substr(0, line.size() - 1) + "\n";
    } else {
      return text + line;
    }
  }
}

void interact(Conversation& conversation) {
  const bool terminal = ::isatty(STDIN_FILENO) != 0;
  if (terminal)
    std::cerr << "A line is a message; end a line with \\ to go on, or put lines between two \"\"\". /reset starts "
                 "anew, /kv shows the cache, Ctrl-D ends.\n";
  while (const auto message = read_message(terminal)) {
    if (*message == "/reset") {
      conversation.reset();
    } else if (*message == "/kv") {
      conversation.show_cache();
    } else if (*message == "/exit" || *message == "/quit") {
      return;
    } else if (message->starts_with('/')) {
      std::cerr << "unknown command " << *message << ": there are /reset, /kv and /exit\n";
    } else if (!message->empty()) {
      try {
        conversation.turn(*message);
        if (terminal) conversation.report();
      } catch (const Error& error) {
        if (!terminal) throw;  // a script wants to know; a person goes on, with a shorter message or /reset
        std::cerr << "lamina: error: " << error.what() << '\n';
        conversation.forget_cache();
      }
      if (interrupted()) {
        interrupted() = false;  // Ctrl-C ended the answer, not the conversation
        catch_interrupts();
      }
    }
  }
}

void chat(const Arguments& args) {
  const std::string message = args.prompt.given ? prompt_text(args.prompt) : "";
  Loaded loaded(args.model);
  Conversation conversation(args, loaded);
  if (!args.prompt.given) return interact(conversation);
  conversation.turn(message);
  conversation.report();
}

}  // namespace

void add_chat(CLI::App& program) {
  auto args = std::make_shared<Arguments>();
  CLI::App* app = program.add_subcommand("chat", "talk to a model in its chat template");
  add_model_options(*app, args->model);
  add_kv_options(*app, args->model);
  add_sampling_options(*app, args->sampling);
  add_prompt_options(*app, args->prompt, "one message, answered once; without it: interactive");
  app->add_option("--system-prompt", args->system, "-sys: the system message");
  app->add_option("--chat-template-file", args->template_file, "a template in place of the model's");
  app->callback([args] { chat(*args); });
}

}  // namespace lamina
