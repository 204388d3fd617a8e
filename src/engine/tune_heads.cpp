// SPDX-License-Identifier: Apache-2.0
#include "engine/tune_heads.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/fastgen_profile.h"
#include "engine/sharing_kl.h"
#include "engine/tune_questions.h"

namespace lamina {
namespace {

// The axis term said of one layer, and there of one head.
std::shared_ptr<const KvSpec> spec_of_head(const OneHead& head, std::string_view axis, const std::string& term,
                                           bool rotate, const KvShape& shape) {
  const std::string one = fmt::format("{}({}={})", axis, index(head.layer), term);
  const auto of_layer = spec_if_possible(joined_terms({one, rotate ? "rotate" : ""}), shape);
  if (of_layer == nullptr) return nullptr;
  KvSpec spec = *of_layer;
  spec.only = head;
  return std::make_shared<const KvSpec>(std::move(spec));
}

void ask_bits_and_tokens(const Subject& subject, const PromptedWindows& text, const HeadFolds& folds,
                         std::vector<HeadCosts>& heads) {
  const KvShape shape = subject.model.shape();
  Questions questions(shape);
  for (HeadCosts& of : heads) {
    const OneHead head{.layer = LayerId{of.layer}, .head = of.head};
    if (folds.bits) questions.add(of.bits, spec_of_head(head, "bits", folds.bits->format, folds.bits->rotate, shape));
    if (folds.method)
      questions.add(of.tokens, spec_of_head(head, "tokens", folds.method->term(folds.keep), false, shape));
  }
  questions.ask(subject, text);
}

void ask_sharing(const Subject& subject, const PromptedWindows& text, const std::vector<int>& source,
                 std::vector<HeadCosts>& heads) {
  if (source.empty()) return;
  SharingKl kl(subject, text);
  for (HeadCosts& of : heads) {
    const int read = source[static_cast<std::size_t>(of.layer)];
    if (read == of.layer) continue;
    of.layers = kl.of_head({.layer = LayerId{of.layer}, .head = of.head}, read);
    subject.on_step();
  }
}

}  // namespace

std::vector<HeadCosts> ask_heads(const Subject& subject, const PromptedWindows& text, const HeadFolds& folds) {
  const KvShape shape = subject.model.shape();
  std::vector<HeadCosts> heads;
  for (int layer = 0; layer < shape.layers; ++layer)
    for (int head = 0; head < shape.kv_heads; ++head) heads.push_back({.layer = layer, .head = head});
  ask_bits_and_tokens(subject, text, folds, heads);
  ask_sharing(subject, text, folds.source, heads);
  return heads;
}

void ask_needs(const Subject& subject, const PromptedWindows& text, std::vector<HeadCosts>& heads) {
  const auto spec = std::make_shared<const KvSpec>(KvSpec::parse("fastgen(recovery=0.95)", subject.model.shape()));
  std::vector<std::vector<int>> chosen(heads.size());  // [head][policy] by how many windows
  const double rows = static_cast<double>(text.prompt * text.windows.size());
  for (const std::vector<Token>& window : text.windows) {
    const auto prompt = std::span(window).first(text.prompt);
    const FastGenProfile profile = profile_fastgen(subject.model, subject.pool, spec, prompt, subject.batch, 0);
    for (std::size_t i = 0; i < heads.size(); ++i) {
      const HeadProfile& head = profile.heads.at(i);
      chosen[i].resize(profile.policies.size());
      ++chosen[i][head.chosen];
      const auto most = std::ranges::max_element(chosen[i]) - chosen[i].begin();  // of as many the smallest
      heads[i].policy = profile.policies.at(static_cast<std::size_t>(most));
      heads[i].kept += static_cast<double>(head.rows) / rows;
    }
    subject.on_step();
  }
}

}  // namespace lamina
