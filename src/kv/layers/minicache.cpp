// SPDX-License-Identifier: Apache-2.0
#include "kv/layers/minicache.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <charconv>
#include <cmath>
#include <limits>
#include <numbers>
#include <numeric>

#include "base/error.h"
#include "kv/layers/layer_map.h"
#include "kv/layers/pair_file.h"
#include "kv/spec_parser.h"

namespace lamina {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

double norm(std::span<const float> x) {
  double sum = 0;
  for (const float value : x) sum += double{value} * value;
  return std::sqrt(sum);
}

// The angle between rows that are not zero. Well conditioned everywhere, unlike the arc cosine.
double angle(std::span<const float> p, double p_norm, std::span<const float> c, double c_norm) {
  double difference = 0, sum = 0;
  for (std::size_t i = 0; i < p.size(); ++i) {
    const double u = p[i] / p_norm, v = c[i] / c_norm;
    difference += (u - v) * (u - v);
    sum += (u + v) * (u + v);
  }
  return 2 * std::atan2(std::sqrt(difference), std::sqrt(sum));
}

// e = a p + b c, of length 1 again where rounding or a fallback left it otherwise. The sum does not vanish.
void combine(std::span<const float> p, double a, std::span<const float> c, double b, std::span<float> e) {
  double square = 0;
  for (std::size_t i = 0; i < p.size(); ++i) square += (a * p[i] + b * c[i]) * (a * p[i] + b * c[i]);
  const double length = std::sqrt(square);
  assert(length > 1e-6);
  for (std::size_t i = 0; i < p.size(); ++i) e[i] = static_cast<float>((a * p[i] + b * c[i]) / length);
}

// The unit direction t of the way from one row to the other.
void direction(double t, std::span<const float> p, double p_norm, std::span<const float> c, double c_norm,
               std::span<float> e) {
  if (p_norm == 0 && c_norm == 0) {
    std::ranges::fill(e, 0.0F);
  } else if (p_norm == 0 || c_norm == 0) {  // the other's direction
    combine(p, p_norm == 0 ? 0 : 1 / p_norm, c, c_norm == 0 ? 0 : 1 / c_norm, e);
  } else {
    const double omega = angle(p, p_norm, c, c_norm), sine = std::sin(omega);
    // Nearly parallel: the chord is as good as the arc. Nearly opposite: every arc is as good, so the nearer end's.
    const bool parallel = sine < 1e-4 && omega < 1, opposite = sine < 1e-4 && !parallel;
    const double a = parallel ? 1 - t : opposite ? (t >= 0.5 ? 0 : 1) : std::sin((1 - t) * omega) / sine;
    const double b = parallel ? t : opposite ? (t >= 0.5 ? 1 : 0) : std::sin(t * omega) / sine;
    combine(p, a / p_norm, c, b / c_norm, e);
  }
}

}  // namespace

double angular_distance(std::span<const float> lower, std::span<const float> deeper) {
  const double p = norm(lower), c = norm(deeper);
  return p == 0 || c == 0 ? 0 : angle(lower, p, deeper, c) / std::numbers::pi;
}

Gains merge_rows(MiniCache::Merge merge, double t, std::span<const float> lower, std::span<const float> deeper,
                 std::span<float> merged) {
  assert(lower.size() == deeper.size() && lower.size() == merged.size());
  if (merge == MiniCache::Merge::kMean) {
    for (std::size_t i = 0; i < merged.size(); ++i) merged[i] = (lower[i] + deeper[i]) / 2;
    return {};
  }
  const double p = norm(lower), c = norm(deeper);
  direction(t, lower, p, deeper, c, merged);
  if (merge == MiniCache::Merge::kSlerp) return {static_cast<float>(p), static_cast<float>(c)};
  for (float& value : merged) value *= static_cast<float>(std::max(p, c));
  return {};
}

std::vector<bool> Retention::prompt(const MiniCache& config, std::span<const double> d) {
  std::vector<bool> kept(d.size());
  if (d.empty()) return kept;
  const auto [least, most] = std::ranges::minmax(d);
  least_ = seen_ ? std::min(least_, least) : least;
  most_ = seen_ ? std::max(most_, most) : most;
  seen_ = true;
  if (config.rule != MiniCache::Rule::kTop) {
    set_cut(config);
    for (std::size_t i = 0; i < d.size(); ++i) kept[i] = decoded(config, d[i]);
    return kept;
  }
  const auto count = static_cast<std::size_t>(std::ceil(config.keep * static_cast<double>(d.size())));
  std::vector<std::size_t> order(d.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return d[a] > d[b]; });
  for (std::size_t i = 0; i < count; ++i) kept[order[i]] = true;
  cut_ = count == 0 ? kNever : config.keep >= 1 ? -kNever : d[order[count - 1]];
  return kept;
}

// lerp is exact at both ends, so keep=1 leaves just the one row apart that a strict comparison must leave.
void Retention::set_cut(const MiniCache& config) {
  switch (config.rule) {
    case MiniCache::Rule::kDistance:
      cut_ = std::lerp(most_, least_, config.keep);
      break;
    case MiniCache::Rule::kLiteral:
      cut_ = std::lerp(least_, most_, config.keep);
      break;
    case MiniCache::Rule::kCosine: {
      const double lowest = std::cos(std::numbers::pi * most_), highest = std::cos(std::numbers::pi * least_);
      cut_ = std::lerp(lowest, highest, config.keep);
      break;
    }
    case MiniCache::Rule::kTop:
      break;  // counted, not computed
  }
}

bool Retention::decoded(const MiniCache& config, double d) const {
  if (!seen_) return false;
  switch (config.rule) {
    case MiniCache::Rule::kDistance:
      return d > cut_;
    case MiniCache::Rule::kTop:
      return d >= cut_;
    case MiniCache::Rule::kCosine:
      return std::cos(std::numbers::pi * d) < cut_;
    case MiniCache::Rule::kLiteral:
      return d < cut_;
  }
  return false;
}

std::vector<std::pair<int, int>> neighbour_pairs(const KvShape& shape, int start, bool across_kinds) {
  std::vector<std::pair<int, int>> pairs;
  for (int layer = start; layer + 1 < shape.layers; ++layer) {
    if (!across_kinds && shape.window(LayerId{layer}) != shape.window(LayerId{layer + 1})) continue;
    pairs.emplace_back(layer, layer + 1);
    ++layer;
  }
  return pairs;
}

namespace {

// start=0.5: a share of the layers; start=16: a layer.
int start_layer(const Term& term, const KvShape& shape) {
  const std::string* const text = term.find("start");
  if (text == nullptr) return shape.layers / 2;
  if (text->find('.') == std::string::npos) return term.integer("start", 0, shape.layers, 0);
  return static_cast<int>(term.number("start", 0, 1, 0) * shape.layers + 1e-9);
}

MiniCache options_of(const Term& term) {
  using M = MiniCache;
  M config;
  config.t = term.number("t", 0, 1, config.t);
  config.keep = term.number("keep", 0, 1, config.keep);
  const auto rule = term.choice("rule", {"distance", "top", "cosine", "literal"});
  config.rule = rule == "top"       ? M::Rule::kTop
                : rule == "cosine"  ? M::Rule::kCosine
                : rule == "literal" ? M::Rule::kLiteral
                                    : M::Rule::kDistance;
  config.by_head = term.choice("vector", {"token", "head"}) == "head";
  const auto of = term.choice("of", {"kv", "k", "v"});
  config.keys = of != "v";
  config.values = of != "k";
  const auto index = term.choice("index", {"own", "union", "k"});
  config.index = index == "union" ? M::Index::kUnion : index == "k" ? M::Index::kKeys : M::Index::kOwn;
  require(config.index == M::Index::kOwn || (config.keys && config.values),
          "minicache has index={} with of={}: only one tensor is merged, so there is nothing to agree on", index, of);
  const auto merge = term.choice("merge", {"slerp", "mean", "maxnorm"});
  config.merge = merge == "mean" ? M::Merge::kMean : merge == "maxnorm" ? M::Merge::kMaxNorm : M::Merge::kSlerp;
  return config;
}

// A number from 0 to 1 in the shortest digits that read back as itself; never 1e-05, which the grammar does not read.
std::string decimal(double value) {
  std::array<char, 400> digits;  // the smallest double takes 327
  const auto [end, error] =
      std::to_chars(digits.data(), digits.data() + digits.size(), std::abs(value), std::chars_format::fixed);
  assert(error == std::errc());
  return {digits.data(), end};
}

// Numbers as they are printed back, words as they are.
std::string canonical(const Term& term, std::string_view key, const std::string& value) {
  if (key == "start" && value.find('.') == std::string::npos)
    return fmt::format("{}", term.integer(key, 0, 1 << 24, 0));
  if (key != "start" && key != "t" && key != "keep") return value;
  std::string text = decimal(term.number(key, 0, 1, 0));
  if (key == "start" && text.find('.') == std::string::npos) text += ".0";  // a share, not a layer
  return text;
}

// The arguments in one order, defaults left out, the file as it is to be named.
std::string print(const Term& term, const std::string& file) {
  constexpr std::pair<std::string_view, std::string_view> kDefaults[] = {
      {"start", "0.5"}, {"pairs", "adjacent"}, {"map", ""},         {"t", "0.6"},
      {"keep", "0.05"}, {"rule", "distance"},  {"vector", "token"}, {"of", "kv"},
      {"index", "own"}, {"merge", "slerp"},    {"kinds", "same"}};
  std::vector<std::string> parts;
  for (const auto& [key, fallback] : kDefaults) {
    const std::string* const value = term.find(key);
    if (value == nullptr) continue;
    const std::string text = key == "map" ? file : canonical(term, key, *value);
    if (text != fallback) parts.push_back(fmt::format("{}={}", key, text));
  }
  return parts.empty() ? "minicache" : fmt::format("minicache({})", fmt::join(parts, ","));
}

}  // namespace

MiniCacheTerm parse_minicache(const Term& term, const KvShape& shape) {
  term.expect_keys({"start", "pairs", "map", "t", "keep", "rule", "vector", "of", "index", "merge", "kinds"});
  require(shape.targets.empty(),
          "minicache merges layers that each keep rows of their own; this model was trained to share them");
  const bool across = term.choice("kinds", {"same", "any"}) == "any";
  const bool measured = term.choice("pairs", {"adjacent", "auto"}) == "auto";
  const std::string* const file = term.find("map");
  require(measured == (file != nullptr),
          "minicache takes pairs=auto together with map=FILE, a file of `lamina search minicache`");
  MiniCacheTerm result{.config = options_of(term), .text = {}, .key = {}};
  result.config.pairs = neighbour_pairs(shape, start_layer(term, shape), across);
  if (!measured) {
    result.text = result.key = print(term, "");
    return result;
  }
  const PairFile pairs = load_pairs(*file, shape);
  for (const auto& [lower, deeper] : pairs.pairs)
    require(across || shape.window(LayerId{lower}) == shape.window(LayerId{deeper}),
            "{}: layers {} and {} are of different kinds (window {} and {}), expected pairs of one kind or kinds=any",
            *file, lower, deeper, shape.window(LayerId{lower}), shape.window(LayerId{deeper}));
  const std::size_t count = result.config.pairs.size();
  require(count <= pairs.pairs.size(), "{}: {} pairs, start={} asks for {}", *file, pairs.pairs.size(),
          term.find("start") == nullptr ? "0.5" : *term.find("start"), count);
  result.config.pairs.assign(pairs.pairs.begin(), pairs.pairs.begin() + static_cast<std::ptrdiff_t>(count));
  result.text = print(term, quoted(*file));
  result.key = print(term, fmt::format("sha256:{}", pairs.sha256.substr(0, 16)));
  return result;
}

}  // namespace lamina
