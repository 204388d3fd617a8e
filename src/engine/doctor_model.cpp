// SPDX-License-Identifier: Apache-2.0
// Checks of the model by itself, under its dense cache.
#include <algorithm>
#include <cassert>
#include <cmath>

#include "engine/doctor.h"
#include "engine/doctor_text.h"

namespace lamina {
namespace {

std::shared_ptr<const KvSpec> dense(const Patient& patient) {
  return std::make_shared<const KvSpec>(KvSpec::parse("full", patient.model.shape()));
}

// Logits of all tokens from `first` on, [token][vocab].
std::vector<float> prompt_logits(const Patient& patient, std::span<const Token> tokens, std::size_t first, int batch,
                                 Isa isa) {
  const auto vocab = static_cast<std::size_t>(patient.model.config().vocab);
  Session session(patient.model, patient.pool,
                  {.spec = dense(patient), .context = static_cast<Pos>(tokens.size()), .batch = batch, .isa = isa});
  std::vector<float> all;
  session.score(
      tokens,
      [&](std::size_t begin, std::span<const float> logits) {
        const std::size_t skipped = begin < first ? first - begin : 0;
        all.insert(all.end(), logits.begin() + static_cast<std::ptrdiff_t>(skipped * vocab), logits.end());
      },
      {}, first);
  return all;
}

// One from the kernels that the model does not run on, where the machine has others: the plainest.
Isa other_isa() { return chosen_isa() == Isa::kScalar && supported(Isa::kAvx2) ? Isa::kAvx2 : Isa::kScalar; }

// Means over tokens, of logits [token][vocab].
struct Agreement {
  double kl = 0, top1 = 0;
};
Agreement agreement(std::span<const float> base, std::span<const float> ours, std::size_t vocab) {
  Agreement mean;
  const std::size_t rows = base.size() / vocab;
  for (std::size_t i = 0; i < rows; ++i) {
    const TokenScore score = compare_token(base.subspan(i * vocab, vocab), ours.subspan(i * vocab, vocab), 0);
    mean.kl += score.kl;
    mean.top1 += score.same_top ? 1 : 0;
  }
  mean.kl /= static_cast<double>(rows);
  mean.top1 /= static_cast<double>(rows);
  return mean;
}

// What is wrong with a text's way to tokens and back.
enum class RoundTrip { kSame, kUnknownTokens, kLeadingSpace, kOther };
RoundTrip round_trip(const Tokenizer& tokenizer, std::string_view text) {
  const std::vector<Token> tokens = tokenizer.encode(text, false);
  const std::string back = tokenizer.decode(tokens, true);
  if (back == text) return RoundTrip::kSame;
  const bool unknown =
      std::ranges::any_of(tokens, [&](Token token) { return tokenizer.type(token) == TokenType::kUnknown; });
  return unknown ? RoundTrip::kUnknownTokens : " " + back == text ? RoundTrip::kLeadingSpace : RoundTrip::kOther;
}

}  // namespace

Finding check_tokenizer(const Tokenizer& tokenizer) {
  double lost = 0, other = 0;
  std::string unknown_in, space_in, other_in;
  for (const auto& [what, text] : spelling_texts()) {
    const RoundTrip result = round_trip(tokenizer, text);
    std::string& where = result == RoundTrip::kOther          ? other_in
                         : result == RoundTrip::kLeadingSpace ? space_in
                                                              : unknown_in;
    if (result == RoundTrip::kSame) continue;
    (result == RoundTrip::kOther ? other : lost) += 1;
    if (where.empty()) where = what;
  }
  const auto texts = static_cast<double>(spelling_texts().size());
  Finding finding = judged("tokenizer", {{.name = "texts", .value = texts},
                                         {.name = "changed", .value = other, .yellow = 0, .red = 0},
                                         {.name = "not_spelled_by_the_vocabulary", .value = lost, .yellow = 0}});
  if (other > 0)
    finding.reason = fmt::format("\"{}\" came back from tokens as another text", other_in);
  else if (!unknown_in.empty())
    finding.reason = fmt::format("the vocabulary has no tokens to spell \"{}\"", unknown_in);
  else if (lost > 0)
    finding.reason = fmt::format("\"{}\" lost its first space, as this tokenizer has it", space_in);
  else
    finding.reason = fmt::format("{:.0f} texts of many kinds came back from tokens as they were", texts);
  return finding;
}

Finding check_recomputation(const Patient& patient, std::span<const Token> tokens) {
  const auto vocab = static_cast<std::size_t>(patient.model.config().vocab);
  const Isa isa = other_isa();
  const std::vector<float> ours = prompt_logits(patient, tokens, 0, patient.batch, chosen_isa()),
                           theirs = prompt_logits(patient, tokens, 0, 7, isa);
  const auto [kl, top1] = agreement(theirs, ours, vocab);
  Finding finding =
      judged("recomputation",
             {{.name = "kl_mean", .value = kl, .yellow = 0.001, .red = 0.02},
              {.name = "top1_agreement", .value = top1, .yellow = 0.95, .red = 0.7, .should_be_large = true}});
  const bool close = finding.health == Health::kGreen;
  finding.reason = fmt::format("dense logits of {} tokens by {} kernels {} by {} ones, in steps of 7", tokens.size(),
                               name(chosen_isa()), close ? "are those" : "differ from those", name(isa));
  return finding;
}

// Decoded tokens are computed a little more exactly than a prompt's (model/matrix.h: Inputs), so their logits differ
// by a KL divergence of 0.002 or so; in pieces a prompt's are the same to the bit, but for maps that read upwards.
Finding check_increments(const Patient& patient, std::span<const Token> tokens) {
  assert(tokens.size() >= 2);
  constexpr std::size_t kDecoded = 32;
  const std::size_t vocab = static_cast<std::size_t>(patient.model.config().vocab), n = tokens.size(),
                    first = n - std::min(kDecoded, n / 2);
  const auto spec = dense(patient);
  const std::vector<float> pieces = prompt_logits(patient, tokens, first, 29, chosen_isa());
  Session whole(patient.model, patient.pool,
                {.spec = spec, .context = static_cast<Pos>(n), .batch = static_cast<int>(n)}),
      steps(patient.model, patient.pool, {.spec = spec, .context = static_cast<Pos>(n), .batch = patient.batch});
  const auto last = whole.prompt(tokens);
  const bool same = std::ranges::equal(last, std::span(pieces).last(vocab));
  steps.prompt(tokens.first(first));
  std::vector<float> decoded;
  for (std::size_t i = first; i < n; ++i) {
    const auto logits = steps.decode(tokens[i]);
    decoded.insert(decoded.end(), logits.begin(), logits.end());
  }
  const auto [kl, top1] = agreement(pieces, decoded, vocab);
  Figure differs{.name = "pieces_differ", .value = same ? 0.0 : 1.0};
  if (!spec->layers.cyclic()) differs.yellow = differs.red = 0;
  Finding finding = judged(
      "increments", {differs,
                     {.name = "kl_mean", .value = kl, .yellow = 0.02, .red = 0.2},
                     {.name = "top1_agreement", .value = top1, .yellow = 0.9, .red = 0.6, .should_be_large = true}});
  finding.reason =
      differs.health() != Health::kGreen ? "a prompt in pieces has not the logits that it has at once"
      : finding.health != Health::kGreen
          ? fmt::format("the last {} tokens decoded one by one have not the logits that they have in the prompt",
                        n - first)
          : fmt::format("{} tokens at once, in pieces of 29, or the last {} one by one: the same logits", n, n - first);
  return finding;
}

}  // namespace lamina
