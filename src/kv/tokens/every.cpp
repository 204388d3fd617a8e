// SPDX-License-Identifier: Apache-2.0
#include "kv/tokens/every.h"

#include <algorithm>

#include "base/error.h"
#include "kv/spec_parser.h"

namespace lamina {
namespace {

constexpr int kMaxTokens = 1'000'000'000;

}  // namespace

Every::Every(const Term& term) {
  if (term.find("every") != nullptr) tokens_ = term.integer("every", 1, kMaxTokens, 0);
}

bool Every::is_due(const Step& step) const {
  if (step.phase != Phase::kDecode) return true;
  if (tokens_ == 0) return false;
  const Pos decoded = step.length - step.prompt_length;
  return decoded / tokens_ > (decoded - step.appended) / tokens_;
}

Pos Every::first_query(const Ahead& ahead, Pos window) const {
  if (tokens_ == 0) return Observe::kNever;
  const Pos decoded = ahead.length - ahead.prompt_end;
  const Pos chosen = ahead.length - decoded % tokens_;
  return chosen + tokens_ - std::min(window, tokens_);
}

Pos Every::most_rows(Pos kept, Pos length, Pos prompt_length) const {
  if (length <= prompt_length) return std::min(length, kept);
  const Pos decoded = length - prompt_length;
  if (tokens_ == 0) return std::min(prompt_length, kept) + decoded;
  return std::min<std::int64_t>(length, std::int64_t{kept} + std::min(decoded, tokens_ - 1));
}

void Every::print_to(std::vector<std::string>& arguments) const {
  if (tokens_ > 0) arguments.push_back(fmt::format("every={}", tokens_));
}

}  // namespace lamina
