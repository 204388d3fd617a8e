// SPDX-License-Identifier: Apache-2.0
#include "engine/tune_survey.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <utility>

namespace lamina {
namespace {

constexpr double kMostKl = 2;
constexpr std::size_t kMethods = 4, kMethodsByLayer = 2;
constexpr std::ptrdiff_t kFormatsByLayer = 5;  // of each rotation
// Formats to choose from by layer: around what the budget is, and somewhat above, for fewer rows make room.
constexpr double kFormatBytes = 1.5;
constexpr double kNever = std::numeric_limits<double>::infinity();

using OfBits = Survey::OfBits;

// Those that no other one beats in bytes and KL, by bytes descending. Of equal ones the first.
std::vector<OfBits> undominated(std::vector<OfBits> all) {
  std::ranges::stable_sort(all, {}, [](const OfBits& f) { return std::pair(f.bytes, f.kl); });
  std::vector<OfBits> front;
  for (const OfBits& found : all)
    if (found.kl <= kMostKl && (front.empty() || found.kl < front.back().kl)) front.push_back(found);
  std::ranges::reverse(front);
  return front;
}

std::vector<OfBits> of_rotation(const std::vector<OfBits>& all, bool rotate) {
  std::vector<OfBits> some;
  std::ranges::copy_if(all, std::back_inserter(some), [&](const OfBits& f) { return f.bits.rotate == rotate; });
  return some;
}

double distance(const OfBits& format, double bytes) {
  return std::abs(std::log(static_cast<double>(format.bytes) / bytes));
}

void keep_nearest(std::vector<OfBits>& formats, double bytes) {
  const auto away = [&](const OfBits& f) { return distance(f, bytes); };
  while (std::ssize(formats) > kFormatsByLayer) formats.erase(std::ranges::max_element(formats, {}, away));
}

// The sum over shares of its KL beside the least there.
double rank(const Survey::OfMethod& method, const Survey& survey) {
  constexpr double kTiny = 1e-6;  // a share that costs nobody anything ranks nobody
  double sum = 0;
  for (std::size_t share = 0; share < method.kl.size(); ++share) {
    double least = kNever;
    for (const auto& other : survey.methods) least = std::min(least, other.kl[share]);
    sum += std::isfinite(method.kl[share]) ? (method.kl[share] + kTiny) / (least + kTiny) : kNever;
  }
  return sum;
}

}  // namespace

Survey survey_axes(const Subject& subject, const PromptedWindows& text, const ByteBudget& budget,
                   std::span<const double> shares) {
  Survey survey;
  std::vector<std::shared_ptr<const KvSpec>> specs;
  std::vector<double*> answers;  // [spec] where its KL goes
  for (const RowBits& bits : row_bits())
    if (auto spec = spec_if_possible(bits.term(), budget.shape)) {
      survey.bits.push_back({.bits = bits, .bytes = budget.bytes(spec)});
      specs.push_back(std::move(spec));
    }
  for (OfBits& found : survey.bits) answers.push_back(&found.kl);
  for (const TokenMethod& method : token_methods(budget.shape))
    survey.methods.push_back({.method = method, .kl = std::vector<double>(shares.size(), kNever)});
  for (Survey::OfMethod& found : survey.methods)
    for (std::size_t share = 0; share < shares.size(); ++share)
      if (auto spec = spec_if_possible(found.method.term(shares[share]), budget.shape)) {
        answers.push_back(&found.kl[share]);
        specs.push_back(std::move(spec));
      }
  const std::vector<double> kl = one_step_kl(subject, specs, text);
  for (std::size_t i = 0; i < kl.size(); ++i) *answers[i] = kl[i];
  return survey;
}

Promising promising(const Survey& survey, std::size_t most_bytes) {
  Promising found;
  std::ranges::transform(undominated(survey.bits), std::back_inserter(found.bits), &OfBits::bits);
  const auto most = static_cast<double>(most_bytes);
  double nearest = kNever;
  for (const bool rotate : {false, true}) {
    std::vector<OfBits> formats = undominated(of_rotation(survey.bits, rotate));
    keep_nearest(formats, kFormatBytes * most);
    for (const OfBits& format : formats) {
      found.bits_by_layer.push_back(format.bits);
      if (distance(format, most) >= nearest) continue;
      nearest = distance(format, most);
      found.bits_by_head = format.bits;
    }
  }
  std::vector<std::pair<double, const TokenMethod*>> ranked;
  for (const Survey::OfMethod& of : survey.methods) ranked.emplace_back(rank(of, survey), &of.method);
  std::ranges::stable_sort(ranked, {}, &std::pair<double, const TokenMethod*>::first);
  for (const auto& [sum, method] : ranked) {
    if (!std::isfinite(sum)) continue;
    if (found.methods.size() < kMethods) found.methods.push_back(*method);
    if (method->by_layer && found.methods_by_layer.size() < kMethodsByLayer) found.methods_by_layer.push_back(*method);
  }
  return found;
}

}  // namespace lamina
