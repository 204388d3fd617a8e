// SPDX-License-Identifier: Apache-2.0
#include "kv/spec.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "kv/spec_parser.h"
#include "kv/tokens/registry.h"

namespace lamina {
namespace {

constexpr int kMaxGrid = 1'000'000'000;

struct Bits {
  std::string_view name;
  Format k, v;
};
constexpr Bits kBits[] = {
    {"f16", Format::kF16, Format::kF16},    {"f32", Format::kF32, Format::kF32},
    {"bf16", Format::kBF16, Format::kBF16}, {"k8v8", Format::kInt8, Format::kInt8},
    {"k8v4", Format::kInt8, Format::kInt4}, {"k4v4", Format::kInt4, Format::kInt4},
    {"k4v8", Format::kInt4, Format::kInt8}, {"k16v8", Format::kF16, Format::kInt8},
    {"k8v16", Format::kInt8, Format::kF16}, {"k16v4", Format::kF16, Format::kInt4},
    {"k4v16", Format::kInt4, Format::kF16},
};

// Methods of the design that are not built yet: asking for one is no spelling mistake.
constexpr std::string_view kPlanned[] = {
    "expected", "k2v2", "k4v2", "kivi", "kivi2", "kivi4", "kvzip", "pyramidinfer",
};

// What a spec's terms say, an axis each; empty text: not named.
struct Parts {
  LayerChoice layers;
  std::string layers_term;
  std::shared_ptr<const TokenPolicy> tokens;
  const Bits* bits = nullptr;
  bool rotate = false;
  int grid = 0;
  bool full = false;
};

std::vector<std::string_view> known_names() {
  std::vector<std::string_view> names = {"full"};
  for (const std::string_view name : layer_term_names()) names.push_back(name);
  for (const std::string_view name : token_policy_names()) names.push_back(name);
  for (const Bits& bits : kBits) names.push_back(bits.name);
  names.emplace_back("rotate");
  names.emplace_back("grid");
  return names;
}

// Edits (insert, delete, replace) from one word to the other.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);  // [prefix of b] distance to the current prefix of a
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

[[noreturn]] void fail_unknown(const std::string& name) {
  require(std::ranges::find(kPlanned, name) == std::end(kPlanned), "the method {} does not exist yet in this version",
          name);
  const std::vector<std::string_view> names = known_names();
  const std::string_view nearest =
      *std::ranges::min_element(names, {}, [&](std::string_view known) { return edit_distance(name, known); });
  const bool close = edit_distance(name, nearest) <= 2 && edit_distance(name, nearest) < nearest.size() - 1;
  fail("unknown term \"{}\"{}, expected one of {}", excerpt(name),
       close ? fmt::format(" (did you mean {}?)", nearest) : "", fmt::join(names, " "));
}

bool take_layers(const Term& term, const KvShape& shape, UpwardMaps upward, Parts& parts) {
  std::optional<LayerChoice> choice = make_layers(term, shape, upward);
  if (!choice) return false;
  require(parts.layers_term.empty(), "two layer terms, {} and {}; expected at most one", parts.layers_term, term.name);
  parts.layers_term = term.name;
  parts.layers = std::move(*choice);
  return true;
}

bool take_bits(const Term& term, Parts& parts) {
  const Bits* const found = std::ranges::find(kBits, std::string_view(term.name), &Bits::name);
  if (found == std::end(kBits)) return false;
  term.expect_keys({});
  require(parts.bits == nullptr, "two bits terms, {} and {}; expected at most one",
          parts.bits == nullptr ? "" : parts.bits->name, term.name);
  parts.bits = found;
  return true;
}

bool take_tokens(const Term& term, Parts& parts) {
  std::shared_ptr<const TokenPolicy> policy = make_token_policy(term);
  if (policy == nullptr) return false;
  require(parts.tokens == nullptr, "two token terms, {} and {}; expected at most one",
          parts.tokens == nullptr ? "" : parts.tokens->text(), term.name);
  parts.tokens = std::move(policy);
  return true;
}

void take_grid(const Term& term, Parts& parts) {
  require(parts.grid == 0, "grid comes twice");
  parts.grid = parse_integer("the distance of grid", term.only_value("a number of tokens"), 1, kMaxGrid);
}

Parts take_terms(const std::vector<Term>& terms, const KvShape& shape, UpwardMaps upward) {
  Parts parts;
  parts.layers = own_layers(shape);
  for (const Term& term : terms) {
    if (term.name == "full") {
      term.expect_keys({});
      require(!parts.full, "full comes twice");
      parts.full = true;
    } else if (term.name == "rotate") {
      term.expect_keys({});
      require(!parts.rotate, "rotate comes twice");
      parts.rotate = true;
    } else if (term.name == "grid") {
      take_grid(term, parts);
    } else if (!take_layers(term, shape, upward, parts) && !take_tokens(term, parts) && !take_bits(term, parts)) {
      fail_unknown(term.name);
    }
  }
  require(
      !parts.full || (parts.layers_term.empty() && parts.tokens == nullptr && parts.bits == nullptr && !parts.rotate),
      "full stands for all three axes, so it goes with grid only");
  return parts;
}

std::string print(const std::string& layers, const Parts& parts) {
  std::vector<std::string> terms;
  if (!layers.empty()) terms.push_back(layers);
  if (parts.tokens != nullptr) terms.push_back(parts.tokens->text());
  if (parts.bits != nullptr && parts.bits->name != "f16") terms.emplace_back(parts.bits->name);
  if (parts.rotate) terms.emplace_back("rotate");
  if (terms.empty()) terms.emplace_back("full");
  if (parts.grid > 0) terms.push_back(fmt::format("grid({})", parts.grid));
  return fmt::format("{}", fmt::join(terms, " + "));
}

}  // namespace

KvSpec KvSpec::parse(std::string_view text, const KvShape& shape, UpwardMaps upward) {
  Parts parts;
  try {
    parts = take_terms(parse_terms(text), shape, upward);
  } catch (const Error& error) {  // the parts know what is wrong, the user also needs to see where
    fail("kv spec \"{}\": {}", excerpt(text), error.what());
  }
  KvSpec spec;
  spec.layers = parts.layers.map;
  spec.minicache = parts.layers.minicache;
  spec.tokens = parts.tokens;
  if (parts.bits != nullptr) {
    spec.k = parts.bits->k;
    spec.v = parts.bits->v;
  }
  spec.rotate = parts.rotate;
  spec.grid = parts.grid;
  if (spec.tokens != nullptr && spec.tokens->observes(Phase::kPrompt, 1).any())
    require(!spec.layers.cyclic(),
            "kv spec \"{}\": {} measures attention, but layers that read higher ones run over a prompt several times",
            excerpt(text), spec.tokens->text());
  if (spec.tokens != nullptr && spec.tokens->reads_keys(Phase::kPromptEnd))
    require(spec.minicache.pairs.empty(), "kv spec \"{}\": {} goes by the norms of keys, minicache merges keys",
            excerpt(text), spec.tokens->text());
  spec.text_ = print(parts.layers.text, parts);
  spec.key_ = print(parts.layers.key, parts);
  return spec;
}

std::string KvSpec::why_no_prefix_reuse() const {
  if (tokens != nullptr && tokens->request_bound())
    return fmt::format("the rows that {} keeps depend on the request's own queries", tokens->text());
  if (!layers.cyclic()) return {};
  return "the rows of a prompt depend on where its steps were cut, because layers read rows from above in passes";
}

std::string bits_from_cache_types(std::string_view k, std::string_view v) {
  struct Alias {
    std::string_view name, digits;  // no digits: only as an equal pair
  };
  constexpr Alias kAliases[] = {{"f32", ""}, {"f16", "16"}, {"bf16", ""}, {"q8_0", "8"}, {"q4_0", "4"}};
  const auto digits = [&](std::string_view name) {
    const Alias* const found = std::ranges::find(kAliases, name, &Alias::name);
    require(found != std::end(kAliases), "cache type \"{}\" is unknown, expected f32, f16, bf16, q8_0 or q4_0",
            excerpt(name));
    return found->digits;
  };
  const std::string_view k_digits = digits(k);
  const std::string_view v_digits = digits(v);
  if (k == v && (k_digits.empty() || k == "f16")) return std::string(k);
  require(!k_digits.empty() && !v_digits.empty(),
          "cache types {} for K and {} for V do not go together: {} needs itself", k, v, k_digits.empty() ? k : v);
  return fmt::format("k{}v{}", k_digits, v_digits);
}

}  // namespace lamina
