// SPDX-License-Identifier: Apache-2.0
#include "engine/sharing_kl.h"

#include <algorithm>

#include "kv/layers/kvsharer_choice.h"

namespace lamina {
namespace {

constexpr std::size_t kPieces = 8, kPieceTokens = 64;

std::vector<std::vector<Token>> pieces(const PromptedWindows& text) {
  std::vector<std::vector<Token>> cut;
  const std::size_t tokens = std::min(kPieceTokens, text.windows.front().size());
  for (std::size_t begin = 0; begin + tokens <= text.windows.front().size(); begin += tokens)
    for (const std::vector<Token>& window : text.windows) {
      if (cut.size() == kPieces) return cut;
      const auto first = window.begin() + static_cast<std::ptrdiff_t>(begin);
      cut.emplace_back(first, first + static_cast<std::ptrdiff_t>(tokens));
    }
  return cut;
}

}  // namespace

SharingKl::SharingKl(const Subject& subject, const PromptedWindows& text)
    : own_(own_targets(subject.model.shape())),
      trial_(subject.model, subject.pool, pieces(text), KvSpec::parse("f32", subject.model.shape()),
             MapTrial::Feed::kPrompt),
      kl_(subject.model, subject.pool, trial_.run(own_)) {}

double SharingKl::of_layer(int layer, int source) { return kl_(trial_.run(with_source(own_, layer, source))); }

double SharingKl::of_head(const OneHead& head, int source) { return kl_(trial_.run(head, source)); }

}  // namespace lamina
