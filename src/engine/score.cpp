// SPDX-License-Identifier: Apache-2.0
#include "engine/score.h"

#include <algorithm>
#include <cassert>

#include "base/error.h"
#include "base/stopwatch.h"
#include "model/model_identity.h"

namespace lamina {
namespace {

void add_cache(Score& score, const KvSequence& kv, std::size_t windows) {
  score.kv_length = kv.length();
  score.merged += kv.merged();
  score.kept_fraction += kv.kept_fraction() / static_cast<double>(windows);
  score.kv_bytes += static_cast<double>(kv.bytes().total()) / static_cast<double>(windows);
}

// A window's logits of the base, in continuations.
class BaseWindow {
 public:
  // windows: of scored tokens so many. `is_run`: the first spec is the base and not scored itself.
  BaseWindow(std::size_t scored, std::size_t vocab, bool is_run, const BaseRows& rows)
      : vocab_(vocab), is_run_(is_run), rows_(rows), logits_(is_compared() || rows.to ? scored * vocab : 0) {}

  bool is_compared() const { return is_run_ || rows_.from != nullptr; }

  void begin(std::size_t window, ThreadPool& pool) {
    if (rows_.from == nullptr) return;
    const std::size_t scored = logits_.size() / vocab_;
    pool.parallel_for(static_cast<int>(scored), [&](int token, int) {
      rows_.from->read(window * scored + static_cast<std::size_t>(token), row(static_cast<std::size_t>(token)));
    });
  }

  // Takes the logits before a scored token of spec `i`: into the window, or as a score.
  void add(std::size_t i, Token next, std::size_t token, std::span<const float> logits, Score& score) {
    const bool is_base = is_run_ && i == 0;
    if (is_base || (rows_.to != nullptr && !is_run_)) std::ranges::copy(logits, row(token).begin());
    if (!is_base)
      score.tokens.push_back(is_compared() ? compare_token(row(token), logits, next) : score_token(logits, next));
  }

  void end(ThreadPool& pool) {
    if (rows_.to != nullptr) rows_.to->add(logits_, pool);
  }

 private:
  std::span<float> row(std::size_t token) { return std::span(logits_).subspan(token * vocab_, vocab_); }

  std::size_t vocab_;
  bool is_run_;
  BaseRows rows_;
  std::vector<float> logits_;  // [scored token][vocab]
};

}  // namespace

Windows::Windows(std::vector<Token> text, std::size_t size, std::size_t count, std::optional<Token> bos)
    : text_(std::move(text)), size_(size), count_(count), bos_(bos) {
  assert(size > 0);
  const std::size_t found = text_.size() / size_;
  require(found >= 1, "the text has {} tokens, one window needs {}", text_.size(), size_);
  require(found >= count_, "the text has {} tokens, {} windows of {} need {}", text_.size(), count_, size_,
          count_ * size_);
  if (count_ == 0) count_ = found;
}

std::vector<Token> Windows::operator[](std::size_t window) const {
  assert(window < count_);
  const auto begin = text_.begin() + static_cast<std::ptrdiff_t>(window * size_);
  std::vector<Token> tokens(begin, begin + static_cast<std::ptrdiff_t>(size_));
  if (bos_) tokens.front() = *bos_;
  return tokens;
}

std::pair<std::size_t, std::size_t> scored_rows(std::size_t begin, std::size_t rows, std::size_t first_token,
                                                std::size_t window) {
  assert(1 <= first_token && first_token < window);
  const std::size_t from = std::max(begin, first_token - 1), to = std::min(begin + rows, window - 1);
  return from < to ? std::pair{from - begin, to - begin} : std::pair{rows, rows};
}

BaseText base_text(const Model& model, const Windows& windows, std::size_t first, std::string protocol,
                   std::string spec) {
  BaseText text{.model = model.config().name,
                .identity = model_identity(model.file()),
                .spec = std::move(spec),
                .protocol = std::move(protocol),
                .vocab = static_cast<std::size_t>(model.config().vocab),
                .windows = windows.count(),
                .size = windows.size(),
                .first = first};
  for (std::size_t w = 0; w < windows.count(); ++w) {
    const std::vector<Token> window = windows[w];
    text.tokens.insert(text.tokens.end(), window.begin(), window.end());
  }
  return text;
}

Score Scorer::score_windows(const std::shared_ptr<const KvSpec>& spec, const Windows& windows, std::size_t first,
                            const BaseRows& rows) const {
  Session session = this->session(spec, windows.size());
  Score score{.tokens = {}, .compared = rows.from != nullptr};
  const std::size_t scored = windows.size() - first;
  const Stopwatch watch;
  for (std::size_t w = 0; w < windows.count(); ++w) {
    BaseOf base;
    if (rows.from != nullptr)
      base = [&, w](std::size_t token, std::vector<float>& room) {
        rows.from->read(w * scored + token - first, room);
        return std::span<const float>(room);
      };
    session.reset();
    score_prompt(session, windows[w], first, base, rows.to, score);
    add_cache(score, session.kv(), windows.count());
  }
  score.seconds = watch.seconds();
  return score;
}

std::vector<Score> Scorer::score_continuations(Specs specs, const std::shared_ptr<const KvSpec>& base,
                                               const Windows& windows, std::size_t prompt, const BaseRows& rows) const {
  assert(1 <= prompt && prompt < windows.size() && !(base && rows.from) && (!rows.to || base || specs.size() == 1));
  std::vector<std::shared_ptr<const KvSpec>> all(specs.begin(), specs.end());
  if (base) all.insert(all.begin(), base);  // its logits are wanted first
  const auto context = static_cast<Pos>(windows.size());
  const auto groups = shared_prompts(all, model_.shape(), context);
  BaseWindow base_window(windows.size() - prompt, static_cast<std::size_t>(model_.config().vocab), base != nullptr,
                         rows);
  std::vector<Score> scores(all.size(), Score{.tokens = {}, .compared = base_window.is_compared()});
  for (std::size_t w = 0; w < windows.count(); ++w) {
    const std::vector<Token> window = windows[w];
    check(window);
    base_window.begin(w, pool_);
    for (const std::vector<std::size_t>& group : groups) {
      const Stopwatch prompt_watch;
      Prompted prompted = prompt_all(model_, pool_, all, group, context, batch_, std::span(window).first(prompt),
                                     prompt_progress(group.size()));
      const double shared = prompt_watch.seconds() / static_cast<double>(group.size());
      for (std::size_t member = 0; member < group.size(); ++member) {
        const std::size_t i = group[member];
        Session& session = prompted.sessions[member];
        const Stopwatch watch;
        continue_window(session, prompted.logits, window, prompt, [&](std::size_t token, auto logits) {
          base_window.add(i, window[prompt + token], token, logits, scores[i]);
        });
        scores[i].seconds += watch.seconds() + shared;
        add_cache(scores[i], session.kv(), windows.count());
      }
    }
    base_window.end(pool_);
  }
  if (base) scores.erase(scores.begin());
  return scores;
}

Score Scorer::score_reference(const std::shared_ptr<const KvSpec>& spec, std::span<const Token> tokens,
                              std::span<const float> reference) const {
  require(tokens.size() >= 2, "the reference has {} tokens, expected at least 2", tokens.size());
  Session session = this->session(spec, tokens.size());
  Score score{.tokens = {}, .compared = true};
  const std::size_t vocab = static_cast<std::size_t>(model_.config().vocab);
  const Stopwatch watch;
  score_prompt(
      session, tokens, 1,
      [&](std::size_t token, std::vector<float>&) { return reference.subspan((token - 1) * vocab, vocab); }, nullptr,
      score);
  add_cache(score, session.kv(), 1);
  score.seconds = watch.seconds();
  return score;
}

Session Scorer::session(const std::shared_ptr<const KvSpec>& spec, std::size_t context) const {
  return Session(model_, pool_, {.spec = spec, .context = static_cast<Pos>(context), .batch = batch_});
}

// The model checks the tokens of a step; a score looks at the first one of the next step.
void Scorer::check(std::span<const Token> tokens) const {
  for (const Token token : tokens)
    require(token >= 0 && token < model_.config().vocab, "token {} is not in the vocabulary of {}", token,
            model_.config().vocab);
}

// A session counts from the prompt's start, our caller from the last call, the tokens of each spec.
std::function<bool(std::size_t)> Scorer::prompt_progress(std::size_t specs) const {
  return [this, specs, last = std::size_t{0}](std::size_t done) mutable {
    progress_(specs * (done - std::exchange(last, done)));
    return true;
  };
}

void Scorer::score_prompt(Session& session, std::span<const Token> window, std::size_t first, const BaseOf& base,
                          BaseWriter* to, Score& score) const {
  check(window);
  const auto vocab = static_cast<std::size_t>(model_.config().vocab);
  std::vector<std::vector<float>> rooms(static_cast<std::size_t>(pool_.threads()),
                                        std::vector<float>(base ? vocab : 0));
  const auto on_logits = [&](std::size_t begin, std::span<const float> logits) {
    const auto [from, end] = scored_rows(begin, logits.size() / vocab, first, window.size());
    const std::size_t scored = score.tokens.size(), start = from, rows = end - from;
    score.tokens.resize(scored + rows);
    pool_.parallel_for(static_cast<int>(rows), [&](int task, int thread) {
      const std::size_t row = start + static_cast<std::size_t>(task), token = begin + row + 1;
      const auto ours = logits.subspan(row * vocab, vocab);
      score.tokens[scored + row - start] =
          base ? compare_token(base(token, rooms[static_cast<std::size_t>(thread)]), ours, window[token])
               : score_token(ours, window[token]);
    });
    if (to != nullptr) to->add(logits.subspan(start * vocab, rows * vocab), pool_);
  };
  session.score(window, on_logits, prompt_progress(), first - 1);
}

// The last token is fed too, though nothing is predicted from it: the cache is measured after it, with the whole window
// in it.
void Scorer::continue_window(Session& session, std::span<const float> logits, std::span<const Token> window,
                             std::size_t prompt, const OnLogits& on_logits) const {
  for (std::size_t i = prompt; i < window.size(); ++i) {
    on_logits(i - prompt, logits);
    logits = session.decode(window[i]);
    progress_(1);
  }
}

}  // namespace lamina
