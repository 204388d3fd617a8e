// SPDX-License-Identifier: Apache-2.0
#include "engine/score.h"

#include <algorithm>
#include <cassert>

#include "base/error.h"
#include "base/stopwatch.h"

namespace lamina {
namespace {

void add_cache(Score& score, const KvSequence& kv, std::size_t windows) {
  score.kv_length = kv.length();
  score.merged += kv.merged();
  score.kept_fraction += kv.kept_fraction() / static_cast<double>(windows);
  score.kv_bytes += static_cast<double>(kv.bytes().total()) / static_cast<double>(windows);
}

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

Score Scorer::score_windows(const std::shared_ptr<const KvSpec>& spec, const Windows& windows,
                            std::size_t first) const {
  Session session = this->session(spec, windows.size());
  Score score;
  const Stopwatch watch;
  for (std::size_t w = 0; w < windows.count(); ++w) {
    session.reset();
    score_prompt(session, windows[w], first, {}, score);
    add_cache(score, session.kv(), windows.count());
  }
  score.seconds = watch.seconds();
  return score;
}

std::vector<Score> Scorer::score_continuations(Specs specs, const std::shared_ptr<const KvSpec>& base,
                                               const Windows& windows, std::size_t prompt) const {
  assert(1 <= prompt && prompt < windows.size());
  std::vector<std::shared_ptr<const KvSpec>> all(specs.begin(), specs.end());
  if (base) all.insert(all.begin(), base);  // its logits are wanted first
  const auto context = static_cast<Pos>(windows.size());
  const auto groups = shared_prompts(all, model_.shape(), context);
  const auto vocab = static_cast<std::size_t>(model_.config().vocab);
  std::vector<float> base_logits(base ? (windows.size() - prompt) * vocab : 0);  // [scored token][vocab]
  std::vector<Score> scores(all.size(), Score{.tokens = {}, .compared = base != nullptr});
  const auto on_logits = [&](std::size_t i, Token next, std::size_t token, std::span<const float> logits) {
    const auto row = std::span(base_logits).subspan(base ? token * vocab : 0, base ? vocab : 0);
    if (base && i == 0)
      std::ranges::copy(logits, row.begin());
    else
      scores[i].tokens.push_back(base ? compare_token(row, logits, next) : score_token(logits, next));
  };
  for (std::size_t w = 0; w < windows.count(); ++w) {
    const std::vector<Token> window = windows[w];
    check(window);
    for (const std::vector<std::size_t>& group : groups) {
      const Stopwatch prompt_watch;
      Prompted prompted = prompt_all(model_, pool_, all, group, context, batch_, std::span(window).first(prompt),
                                     prompt_progress(group.size()));
      const double shared = prompt_watch.seconds() / static_cast<double>(group.size());
      for (std::size_t member = 0; member < group.size(); ++member) {
        const std::size_t i = group[member];
        Session& session = prompted.sessions[member];
        const Stopwatch watch;
        continue_window(session, prompted.logits, window, prompt,
                        [&](std::size_t token, auto logits) { on_logits(i, window[prompt + token], token, logits); });
        scores[i].seconds += watch.seconds() + shared;
        add_cache(scores[i], session.kv(), windows.count());
      }
    }
  }
  if (base) scores.erase(scores.begin());
  return scores;
}

Score Scorer::score_reference(const std::shared_ptr<const KvSpec>& spec, std::span<const Token> tokens,
                              std::span<const float> reference) const {
  require(tokens.size() >= 2, "the reference has {} tokens, expected at least 2", tokens.size());
  Session session = this->session(spec, tokens.size());
  Score score{.tokens = {}, .compared = true};
  const Stopwatch watch;
  score_prompt(session, tokens, 1, reference, score);
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

void Scorer::score_prompt(Session& session, std::span<const Token> window, std::size_t first,
                          std::span<const float> reference, Score& score) const {
  check(window);
  const auto vocab = static_cast<std::size_t>(model_.config().vocab);
  const auto on_logits = [&](std::size_t begin, std::span<const float> logits) {
    const auto [from, to] = scored_rows(begin, logits.size() / vocab, first, window.size());
    const std::size_t scored = score.tokens.size(), start = from;
    score.tokens.resize(scored + to - from);
    pool_.parallel_for(static_cast<int>(to - from), [&](int task, int) {
      const std::size_t row = start + static_cast<std::size_t>(task);
      const auto ours = logits.subspan(row * vocab, vocab);
      const Token next = window[begin + row + 1];
      score.tokens[scored + row - start] =
          reference.empty() ? score_token(ours, next)
                            : compare_token(reference.subspan((begin + row) * vocab, vocab), ours, next);
    });
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
