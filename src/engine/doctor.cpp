// SPDX-License-Identifier: Apache-2.0
#include "engine/doctor.h"

#include <algorithm>
#include <cmath>

#include "engine/doctor_text.h"

namespace lamina {
namespace {

constexpr std::size_t kMostTokens = 512, kRecomputed = 48;

}  // namespace

const char* name(Health health) {
  return health == Health::kGreen ? "green" : health == Health::kYellow ? "yellow" : "red";
}

Health Figure::health() const {
  const auto beyond = [this](double limit) { return should_be_large ? !(value >= limit) : !(value <= limit); };
  return red && beyond(*red) ? Health::kRed : yellow && beyond(*yellow) ? Health::kYellow : Health::kGreen;
}

Finding judged(std::string check, std::vector<Figure> figures) {
  Finding finding{.check = std::move(check), .figures = std::move(figures)};
  for (const Figure& figure : finding.figures) finding.health = std::max(finding.health, figure.health());
  return finding;
}

Health worst(std::span<const Finding> findings) {
  Health health = Health::kGreen;
  for (const Finding& finding : findings) health = std::max(health, finding.health);
  return health;
}

std::vector<Token> story_tokens(const Tokenizer& tokenizer, std::size_t most) {
  std::vector<Token> tokens = tokenizer.encode(doctor_story(), false);
  if (tokenizer.add_bos() && tokenizer.bos()) tokens.insert(tokens.begin(), *tokenizer.bos());
  tokens.resize(std::min(tokens.size(), most));
  return tokens;
}

std::vector<Finding> examine(const Patient& patient, const Examination& examination) {
  const std::vector<Token> tokens =
      story_tokens(patient.tokenizer, std::min(kMostTokens, static_cast<std::size_t>(patient.model.config().context)));
  std::vector<Finding> findings;
  examination.on_check("tokenizer");
  findings.push_back(check_tokenizer(patient.tokenizer));
  examination.on_check("recomputation");
  findings.push_back(check_recomputation(patient, std::span(tokens).first(std::min(kRecomputed, tokens.size()))));
  examination.on_check("increments");
  findings.push_back(check_increments(patient, tokens));
  examination.on_check("cache");
  const Trial trial = run_trial(patient, tokens, examination.after_prompt);
  findings.push_back(check_drift(trial));
  findings.push_back(check_cache(trial));
  findings.push_back(check_bytes(patient, trial));
  examination.on_check("speed");
  findings.push_back(check_speed(trial, measure_machine(patient.pool, examination.machine_seconds)));
  return findings;
}

}  // namespace lamina
