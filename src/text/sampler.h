// SPDX-License-Identifier: Apache-2.0
// Sampler: logits -> token. The stages and their order are those of llama.cpp's default chain, so that settings carry
// over: logit bias, penalties, top-k, top-p, min-p, temperature, draw. Probabilities of top-p and min-p are therefore
// those before temperature, of the tokens that top-k left.
//
// The same seed, settings, accepted tokens and logits give the same token: generator and conversion are fixed here,
// since the distributions of the standard library differ between libraries.
#pragma once
#include <cstddef>
#include <cstdint>
#include <deque>
#include <random>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

namespace lamina {

using Token = std::int32_t;

struct SamplerConfig {
  float temperature = 0.8F;  // 0: greedy, the most likely token after bias and penalties (the lower id on a tie)
  int top_k = 40;            // keep the k most likely tokens; 0: all
  float top_p = 0.95F;       // keep the fewest most likely tokens that hold this share of the probability; 1: all
  float min_p = 0.05F;       // keep tokens at least this times as likely as the best one; 0: all
  // Penalties for tokens among the last `repeat_last_n` accepted ones (0: none, -1: all).
  float repeat_penalty = 1.0F;     // divides positive logits, multiplies negative ones
  float presence_penalty = 0.0F;   // subtracted once
  float frequency_penalty = 0.0F;  // subtracted for each occurrence
  int repeat_last_n = 64;
  std::vector<std::pair<Token, float>> logit_bias;  // added; -infinity bans the token
  std::uint64_t seed = 0;

  void validate() const;  // Error naming the field, its value and its range
};

class Sampler {
 public:
  explicit Sampler(SamplerConfig config);  // validates

  // Error when a logit is not finite, when a token of the bias or of the text is not in the vocabulary, or when every
  // token is banned.
  Token sample(std::span<const float> logits);
  // Every token of the text, prompt and generated, in order: what the penalties look at.
  void accept(Token token);

 private:
  struct Candidate {
    Token token;
    float logit;
  };

  void adjust(std::span<const float> logits);  // bias and penalties, into adjusted_
  void keep_top_k();                           // adjusted_ -> candidates_; sorted where top-k is on
  void keep_top_p();
  void keep_min_p();
  Token draw();
  float best_logit() const;
  static bool better(const Candidate& a, const Candidate& b);

  SamplerConfig config_;
  std::mt19937_64 generator_;  // its output is fixed by the standard
  std::deque<Token> recent_;
  std::unordered_map<Token, int> counts_;  // of recent_
  std::vector<float> adjusted_;            // [token], kept between calls as the next two
  std::vector<Candidate> candidates_;
  std::vector<double> weights_;  // [candidate]
};

}  // namespace lamina
