// SPDX-License-Identifier: Apache-2.0
// A tiny random model and windows of a text, for what tune asks of models.
#pragma once
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "engine/one_step_kl.h"
#include "engine/score.h"
#include "engine/statistics.h"
#include "engine/suite.h"
#include "engine/tune_measure.h"
#include "model/tokenizer_data.h"

namespace lamina {

inline std::vector<Token> text_of(std::size_t tokens, Token vocab) {
  std::vector<Token> text(tokens);
  for (std::size_t i = 0; i < tokens; ++i)
    text[i] = static_cast<Token>((i * i * 31 + i * 7 + i / 50) % static_cast<std::size_t>(vocab));
  return text;
}

class TuneModel : public testing::TestWithParam<const char*> {
 protected:
  static constexpr std::size_t kPrompt = 400, kScored = 8;
  ThreadPool pool_{2};
  Model model_ = Model::load(std::string(LAMINA_TESTS "/golden/tiny/") + GetParam() + ".gguf", pool_);
  Tokenizer tokenizer_ = load_tokenizer(model_.file());
  TuneText text_ = cut_tune_text(text_of(2500, model_.config().vocab),
                                 {.prompt = kPrompt, .scored = kScored, .selection = 3, .held_out = 3}, std::nullopt);
  int steps_ = 0;

  Subject subject() {
    return {.model = model_, .tokenizer = tokenizer_, .pool = pool_, .on_step = [this] { ++steps_; }};
  }
  PromptedWindows windows() const { return {.windows = text_.selection, .prompt = kPrompt}; }
  std::shared_ptr<const KvSpec> spec(const std::string& text) const {
    return std::make_shared<const KvSpec>(KvSpec::parse(text, model_.shape()));
  }
  double decoded_kl(const std::shared_ptr<const KvSpec>& spec) {
    std::vector<double> kl;
    for (const auto& window : text_.selection)
      for (const Score& score : Scorer(model_, pool_, 512, [](std::size_t) {})
                                    .score_continuations({&spec, 1}, this->spec("full"),
                                                         Windows(window, window.size(), 1, std::nullopt), kPrompt))
        for (const TokenScore& token : score.tokens) kl.push_back(token.kl);
    return mean(kl);
  }
};

inline std::string name_of(const testing::TestParamInfo<const char*>& of) {
  std::string name = of.param;
  std::erase(name, '-');
  return name;
}

}  // namespace lamina
