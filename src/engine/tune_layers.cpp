// SPDX-License-Identifier: Apache-2.0
#include "engine/tune_layers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/sharing_kl.h"

namespace lamina {
namespace {

constexpr std::size_t kSourcesTried = 2;

// Specs that are asked together, and whose costs their answers are.
class Questions {
 public:
  explicit Questions(const KvShape& shape) : shape_(shape) {
    // Rotation alone moves the output a little, in whatever layer rows are encoded: counted once, not for each layer.
    specs_.push_back(spec_if_possible("rotate", shape));
  }

  // term: of one axis, for one layer and for all.
  void add(LayerCosts& costs, const std::string& axis, const std::string& term, bool rotate) {
    const std::string more = rotate ? "rotate" : "";
    costs.kl.assign(static_cast<std::size_t>(shape_.layers), LayerCosts::kNone);
    for (int layer = 0; layer < shape_.layers; ++layer)
      add_one(costs.kl[static_cast<std::size_t>(layer)], {fmt::format("{}({}={})", axis, layer, term), more});
    add_one(costs.together, {term, more});
  }

  void ask(const Subject& subject, const PromptedWindows& text) {
    const std::vector<double> kl = one_step_kl(subject, specs_, text);
    for (std::size_t i = 0; i < answers_.size(); ++i)
      *answers_[i] = specs_[i + 1]->rotate ? std::max(0.0, kl[i + 1] - kl.front()) : kl[i + 1];
  }

 private:
  void add_one(double& answer, const std::vector<std::string>& terms) {
    auto spec = spec_if_possible(joined_terms(terms), shape_);
    if (spec == nullptr) return;
    specs_.push_back(std::move(spec));
    answers_.push_back(&answer);
  }

  const KvShape& shape_;
  std::vector<std::shared_ptr<const KvSpec>> specs_;
  std::vector<double*> answers_;  // [spec but the first]
};

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
  for (BitsCosts& of : found.bits) questions.add(of.costs, "bits", of.bits.format, of.bits.rotate);
  for (RowsCosts& of : found.rows) questions.add(of.costs, "tokens", of.method.term(of.keep), false);
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
