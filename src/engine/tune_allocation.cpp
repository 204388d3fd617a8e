// SPDX-License-Identifier: Apache-2.0
#include "engine/tune_allocation.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <numeric>
#include <tuple>

#include "kv/layers/layer_map.h"
#include "kv/per_layer.h"

namespace lamina {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

// One layer's choice.
struct Fold {
  std::string format, rows;  // terms; empty: f16, all of them
};

class Allocation {
 public:
  Allocation(const LayerFolds& given, const ByteBudget& budget) : given_(given), budget_(budget) {
    std::vector<std::vector<double>> bits = {{}}, rows = {{}};  // [choice][layer]; the first: not folded
    for (const BitsCosts& of : given.bits) bits.push_back(additive(of.costs));
    for (const RowsCosts& of : given.rows) rows.push_back(additive(of.costs));
    for (int layer = 0; layer < budget.shape.layers; ++layer) {
      folds_.emplace_back();
      options_.emplace_back();
      if (!writes(layer)) {
        folds_.back().emplace_back();
        options_.back().emplace_back();
        continue;
      }
      for (std::size_t b = 0; b < bits.size(); ++b)
        for (std::size_t r = 0; r < rows.size(); ++r) {
          const auto cost = [&](const auto& costs) {
            return costs.empty() ? 0 : costs[static_cast<std::size_t>(layer)];
          };
          add({.format = b == 0 ? "" : given.bits[b - 1].bits.format,
               .rows = r == 0 ? "" : given.rows[r - 1].method.term(given.rows[r - 1].keep)},
              layer, cost(bits[b]) + cost(rows[r]));
        }
    }
  }

  std::optional<Candidate> best() {
    std::size_t most = budget_.most;
    for (int attempt = 0; attempt < 4; ++attempt, most -= most / 100) {  // bytes of layers are a little less than exact
      const auto chosen = allocate(options_, most);
      if (!chosen) return std::nullopt;
      if (auto candidate = candidate_if_fits(text(*chosen), budget_)) return candidate;
    }
    return std::nullopt;
  }

 private:
  bool writes(int layer) const {
    return given_.target.empty() || given_.target[static_cast<std::size_t>(layer)] == layer;
  }

  void add(const Fold& fold, int layer, double cost) {
    const std::optional<std::size_t> size = bytes(fold, layer);
    if (!size) return;
    folds_.back().push_back(fold);
    options_.back().push_back({.cost = cost, .bytes = *size});
  }

  // Of one layer: the same for all with the same window. Nothing where the two axes do not go together.
  std::optional<std::size_t> bytes(const Fold& fold, int layer) {
    const Pos window = budget_.shape.window(LayerId{layer});
    const auto [at, is_new] = known_.try_emplace({window, fold.format, fold.rows}, std::nullopt);
    if (is_new) {
      ByteBudget one = budget_;
      one.shape.layers = 1;
      one.shape.windows = {window};
      if (const auto spec = spec_if_possible(joined_terms({fold.rows, fold.format}), one.shape))
        at->second = one.bytes(spec);
    }
    return at->second;
  }

  std::string text(std::span<const std::size_t> chosen) const {
    std::vector<std::string> bits, rows;
    for (std::size_t layer = 0; layer < chosen.size(); ++layer) {
      bits.push_back(folds_[layer][chosen[layer]].format);
      rows.push_back(folds_[layer][chosen[layer]].rows);
    }
    const auto term = [](std::string_view name, const std::vector<std::string>& values) {
      return std::ranges::all_of(values, &std::string::empty) ? "" : print_per_layer(name, values);
    };
    const bool rotate = !given_.bits.empty() && given_.bits.front().bits.rotate;
    const std::string map = given_.target.empty() ? "" : fmt::format("map({})", print_layer_types(given_.target));
    return joined_terms({map, term("tokens", rows), term("bits", bits), rotate ? "rotate" : ""});
  }

  const LayerFolds& given_;
  const ByteBudget& budget_;
  std::map<std::tuple<Pos, std::string, std::string>, std::optional<std::size_t>> known_;
  std::vector<std::vector<Fold>> folds_;  // [layer][option]
  std::vector<std::vector<LayerOption>> options_;
};

}  // namespace

std::optional<std::vector<std::size_t>> allocate(std::span<const std::vector<LayerOption>> options, std::size_t most) {
  constexpr std::size_t kUnits = 16384;
  const std::size_t unit = std::max<std::size_t>(1, most / kUnits), units = most / unit;
  const auto weight = [unit](const LayerOption& option) { return (option.bytes + unit - 1) / unit; };
  // From the last layer down: [units that are left] the least cost of this layer and those above it.
  std::vector<double> rest(units + 1, 0);
  std::vector<std::vector<std::uint16_t>> taken(options.size(), std::vector<std::uint16_t>(units + 1));
  for (std::size_t layer = options.size(); layer-- > 0;) {
    std::vector<double> best(units + 1, kNever);
    for (std::size_t i = 0; i < options[layer].size(); ++i) {
      const std::size_t size = weight(options[layer][i]);
      for (std::size_t left = size; left <= units; ++left) {
        const double cost = options[layer][i].cost + rest[left - size];
        if (cost >= best[left]) continue;
        best[left] = cost;
        taken[layer][left] = static_cast<std::uint16_t>(i);
      }
    }
    rest = std::move(best);
  }
  if (rest[units] == kNever) return std::nullopt;
  std::vector<std::size_t> choice;
  for (std::size_t layer = 0, left = units; layer < options.size(); ++layer) {
    choice.push_back(taken[layer][left]);
    left -= weight(options[layer][choice.back()]);
  }
  return choice;
}

std::vector<double> additive(const LayerCosts& costs) {
  std::vector<double> kl = costs.kl;
  for (double& value : kl)
    if (std::isnan(value)) value = kNever;
  const double sum = std::accumulate(kl.begin(), kl.end(), 0.0);
  if (std::isnan(costs.together) || !(sum > 0) || !std::isfinite(sum)) return kl;
  const double factor = std::clamp(costs.together / sum, 0.25, 4.0);
  for (double& value : kl) value *= factor;
  return kl;
}

std::optional<Candidate> allocated_candidate(const LayerFolds& folds, const ByteBudget& budget) {
  std::optional<Candidate> best = Allocation(folds, budget).best();
  if (best) best->remade = [folds](const ByteBudget& another) { return allocated_candidate(folds, another); };
  return best;
}

}  // namespace lamina
