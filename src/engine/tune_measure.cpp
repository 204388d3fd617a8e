// SPDX-License-Identifier: Apache-2.0
#include "engine/tune_measure.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "base/error.h"

namespace lamina {
namespace {

constexpr std::size_t kLeastWindows = 2;  // of each part: a standard error wants two values

}  // namespace

TuneText cut_tune_text(const std::vector<Token>& text, const TuneSizes& sizes, std::optional<Token> bos) {
  const std::size_t size = sizes.prompt + sizes.scored, wanted = sizes.selection + sizes.held_out;
  const std::size_t found = text.size() / size;
  require(found >= 2 * kLeastWindows,
          "the text has {} tokens, expected at least {}: {} windows of {} to select on and as many held out",
          text.size(), 2 * kLeastWindows * size, kLeastWindows, size);
  const std::size_t count = std::min(found, wanted);
  const std::size_t seen = std::clamp(count * sizes.selection / wanted, kLeastWindows, count - kLeastWindows);
  TuneText cut{.selection = {}, .held_out = {}, .prompt = sizes.prompt};
  for (std::size_t i = 0; i < count; ++i) {
    const auto begin = text.begin() + static_cast<std::ptrdiff_t>(i * found / count * size);
    std::vector<Token> window(begin, begin + static_cast<std::ptrdiff_t>(size));
    if (bos) window.front() = *bos;
    const bool is_selection = (i + 1) * seen / count > i * seen / count;
    (is_selection ? cut.selection : cut.held_out).push_back(std::move(window));
  }
  return cut;
}

void Figures::add(const Score& window) {
  const auto n = static_cast<double>(window.tokens.size());
  double sum = 0, same = 0;
  for (const TokenScore& token : window.tokens) {
    sum += token.kl;
    same += token.same_top ? 1 : 0;
  }
  kl.push_back(std::isfinite(sum) ? sum / n : std::numeric_limits<double>::infinity());
  top1.push_back(same / n);
  kept.push_back(window.kept_fraction);
  bytes.push_back(window.kv_bytes);
}

}  // namespace lamina
