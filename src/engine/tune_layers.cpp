// SPDX-License-Identifier: Apache-2.0
#include "engine/tune_layers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/sharing_kl.h"
#include "engine/tune_questions.h"

namespace lamina {
namespace {

constexpr std::size_t kSourcesTried = 2;

// term: of one axis, for each layer alone and for all.
void add_layers(Questions& questions, LayerCosts& costs, const std::string& axis, const std::string& term, bool rotate,
                const KvShape& shape) {
  const std::string more = rotate ? "rotate" : "";
  costs.kl.assign(static_cast<std::size_t>(shape.layers), LayerCosts::kNone);
  for (int layer = 0; layer < shape.layers; ++layer) {
    const std::string one = fmt::format("{}({}={})", axis, layer, term);
    questions.add(costs.kl[static_cast<std::size_t>(layer)], spec_if_possible(joined_terms({one, more}), shape));
  }
  questions.add(costs.together, spec_if_possible(joined_terms({term, more}), shape));
}

SharingCosts ask_sharing(const Subject& subject, const PromptedWindows& text) {
  const KvShape shape = subject.model.shape();
  const auto layers = static_cast<std::size_t>(shape.layers);
  SharingKl kl(subject, text);
  SharingCosts sharing{.source = identity_targets(shape.layers),
                       .costs = {.kl = std::vector<double>(layers, LayerCosts::kNone)}};
  std::vector<std::size_t> tried(layers);
  for (const LayerPair& pair : rank_pairs(kl.mean_rows(), shape, {.order = LayerOrder::kSimilar})) {
    const auto layer = static_cast<std::size_t>(pair.layer);
    if (tried[layer]++ >= kSourcesTried) continue;
    const double found = kl.of_layer(pair.layer, pair.source);
    if (!(found >= sharing.costs.kl[layer])) {  // the first is compared with NaN
      sharing.costs.kl[layer] = found;
      sharing.source[layer] = pair.source;
    }
    subject.on_step();
  }
  return sharing;
}

}  // namespace

Sensitivity ask_layers(const Subject& subject, const PromptedWindows& text, std::span<const RowBits> bits,
                       std::span<const TokenMethod> methods, std::span<const double> shares) {
  Sensitivity found;
  for (const RowBits& format : bits) found.bits.push_back({.bits = format, .costs = {}});
  for (const TokenMethod& method : methods)
    for (const double share : shares) found.rows.push_back({.method = method, .keep = share, .costs = {}});
  const KvShape shape = subject.model.shape();
  Questions questions(shape);
  for (BitsCosts& of : found.bits) add_layers(questions, of.costs, "bits", of.bits.format, of.bits.rotate, shape);
  for (RowsCosts& of : found.rows) add_layers(questions, of.costs, "tokens", of.method.term(of.keep), false, shape);
  questions.ask(subject, text);
  found.sharing = ask_sharing(subject, text);
  return found;
}

std::vector<int> share_cheapest(const SharingCosts& sharing, int count) {
  const std::vector<double>& kl = sharing.costs.kl;
  const auto layers = static_cast<int>(kl.size());
  std::vector<int> order(kl.size()), target = identity_targets(layers);
  std::iota(order.begin(), order.end(), 0);
  std::erase_if(order, [&](int layer) { return std::isnan(kl[static_cast<std::size_t>(layer)]); });
  std::ranges::stable_sort(order, {}, [&](int layer) { return kl[static_cast<std::size_t>(layer)]; });
  int shared = 0;
  for (const int layer : order) {
    if (shared == count) break;
    const auto at = static_cast<std::size_t>(layer);
    const int source = target[static_cast<std::size_t>(sharing.source[at])];
    const bool is_read = std::ranges::count(target, layer) > 1;  // by others than itself
    if (is_read || source == layer) continue;
    target[at] = source;
    ++shared;
  }
  return target;
}

}  // namespace lamina
