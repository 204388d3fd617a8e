// SPDX-License-Identifier: Apache-2.0
// How well a model knows a text under a KV spec, by one of two protocols on consecutive windows of the text:
//   windows        a window is one prompt; its tokens from `first` on are scored from the pass over the whole window
//   continuations  a window's first `prompt` tokens are the prompt, then the policy commits, then the others are fed
//   one
//                  at a time and scored, the first of them from the prompt's last logits
// Scores do not depend on the number of threads.
#pragma once
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/thread_pool.h"
#include "engine/base_file.h"
#include "engine/session.h"
#include "engine/shared_prompt.h"
#include "engine/statistics.h"
#include "kv/spec.h"
#include "model/forward.h"

namespace lamina {

// Consecutive windows of a text that was encoded as a whole, without BOS.
class Windows {
 public:
  // count 0: as many as there are. A `bos` replaces each window's first token. Error if the text is too short.
  Windows(std::vector<Token> text, std::size_t size, std::size_t count, std::optional<Token> bos);

  std::size_t size() const { return size_; }
  std::size_t count() const { return count_; }
  std::vector<Token> operator[](std::size_t window) const;

 private:
  std::vector<Token> text_;
  std::size_t size_, count_;
  std::optional<Token> bos_;
};

// Of the logits of window positions [begin, begin + rows), those [first, second) that predict a token to be scored:
// the tokens from `first_token` to the window's last.
std::pair<std::size_t, std::size_t> scored_rows(std::size_t begin, std::size_t rows, std::size_t first_token,
                                                std::size_t window);

// The base's logits beyond those of a spec that is run beside: they come from a file, or go to one.
struct BaseRows {
  const BaseFile* from = nullptr;
  BaseWriter* to = nullptr;
};
// What the rows of a base for such a score are of: for a writer, and for BaseFile::expect.
BaseText base_text(const Model& model, const Windows& windows, std::size_t first, std::string protocol,
                   std::string spec);

struct Score {
  std::vector<TokenScore> tokens;  // [window][scored token]
  bool compared = false;           // with a base
  Pos kv_length = 0;               // tokens that the cache had read at the end of each window, the last one included
  double kept_fraction = 0;        // then, averaged over windows
  double kv_bytes = 0;             // then, averaged over windows
  MergeCount merged{};             // then, of all windows
  double seconds = 0;              // without the base's run; of a prompt that specs share each an equal part
};

class Scorer {
 public:
  // Called with the number of tokens that were fed since the last call. It may throw to end the work.
  using OnProgress = std::function<void(std::size_t tokens)>;

  Scorer(Model& model, ThreadPool& pool, int batch, OnProgress progress)
      : model_(model), pool_(pool), batch_(batch), progress_(std::move(progress)) {}

  // rows.to: gets the logits of this spec.
  Score score_windows(const std::shared_ptr<const KvSpec>& spec, const Windows& windows, std::size_t first,
                      const BaseRows& rows = {}) const;
  // [spec]. All specs share the base's run, and prompts where they can; base null and no rows.from: nothing to compare
  // with. rows.to: gets the logits of the base, or without one of the only spec. Holds the base's logits of a window.
  std::vector<Score> score_continuations(Specs specs, const std::shared_ptr<const KvSpec>& base, const Windows& windows,
                                         std::size_t prompt, const BaseRows& rows = {}) const;
  // One prompt of these tokens, all but the first scored, against logits [tokens][vocab] from elsewhere.
  Score score_reference(const std::shared_ptr<const KvSpec>& spec, std::span<const Token> tokens,
                        std::span<const float> reference) const;

 private:
  // Called for each scored token, counted from 0, with the logits before it.
  using OnLogits = std::function<void(std::size_t token, std::span<const float> logits)>;
  // The base's logits [vocab] that predict this token of the window; `room` [vocab] is for where they are not at hand.
  using BaseOf = std::function<std::span<const float>(std::size_t token, std::vector<float>& room)>;

  Session session(const std::shared_ptr<const KvSpec>& spec, std::size_t context) const;
  std::function<bool(std::size_t)> prompt_progress(std::size_t specs = 1) const;
  void check(std::span<const Token> tokens) const;
  void score_prompt(Session& session, std::span<const Token> window, std::size_t first, const BaseOf& base,
                    BaseWriter* to, Score& score) const;
  // After the prompt, whose last token the logits are of.
  void continue_window(Session& session, std::span<const float> logits, std::span<const Token> window,
                       std::size_t prompt, const OnLogits& on_logits) const;

  Model& model_;
  ThreadPool& pool_;
  int batch_;
  OnProgress progress_;
};

}  // namespace lamina
