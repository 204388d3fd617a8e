// SPDX-License-Identifier: Apache-2.0
#include "kv/spec.h"

#include <algorithm>
#include <functional>
#include <map>
#include <numeric>
#include <optional>
#include <tuple>

#include "base/error.h"
#include "kv/per_layer.h"
#include "kv/policy_file.h"
#include "kv/spec_parser.h"
#include "kv/tokens/registry.h"

namespace lamina {
namespace {

constexpr int kMaxGrid = 1'000'000'000;

struct Bits {
  std::string text;
  Format k, v;
  Kivi kivi{};
};

struct RowFormats {
  std::string_view name;
  Format k, v;
};
constexpr RowFormats kRowFormats[] = {
    {"f16", Format::kF16, Format::kF16},      {"f32", Format::kF32, Format::kF32},
    {"bf16", Format::kBF16, Format::kBF16},   {"k8v8", Format::kInt8, Format::kInt8},
    {"k8v4", Format::kInt8, Format::kInt4},   {"k4v4", Format::kInt4, Format::kInt4},
    {"k4v8", Format::kInt4, Format::kInt8},   {"k16v8", Format::kF16, Format::kInt8},
    {"k8v16", Format::kInt8, Format::kF16},   {"k16v4", Format::kF16, Format::kInt4},
    {"k4v16", Format::kInt4, Format::kF16},   {"k4v2", Format::kInt4, Format::kAsym2},
    {"k2v2", Format::kAsym2, Format::kAsym2},
};

// What a spec's terms say, an axis each; empty text: not named.
struct Parts {
  LayerChoice layers;
  std::string layers_term;
  // [layer]; a term without layers says the same of all
  std::vector<std::shared_ptr<const TokenPolicy>> tokens;
  std::vector<Bits> bits;
  std::string tokens_term, bits_term;
  bool rotate = false;
  int grid = 0;
  bool full = false;
};

std::vector<std::string_view> bits_names() {
  std::vector<std::string_view> names;  // clang 14 cannot read GCC 12's views
  for (const RowFormats& formats : kRowFormats) names.push_back(formats.name);
  for (const std::string_view name : {"kivi4", "kivi2"}) names.push_back(name);
  return names;
}

std::vector<std::string_view> known_names() {
  std::vector<std::string_view> names = {"full"};
  for (const std::string_view name : layer_term_names()) names.push_back(name);
  for (const std::string_view name : token_policy_names()) names.push_back(name);
  for (const std::string_view name : bits_names()) names.push_back(name);
  for (const std::string_view name : {"bits", "tokens", "rotate", "grid"}) names.push_back(name);
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

std::optional<Bits> make_bits(const Term& term) {
  if (const std::optional<Kivi> kivi = Kivi::parse(term))
    return Bits{.text = kivi->text(), .k = kivi->k(), .v = kivi->v(), .kivi = *kivi};
  const RowFormats* const found = std::ranges::find(kRowFormats, std::string_view(term.name), &RowFormats::name);
  if (found == std::end(kRowFormats)) return std::nullopt;
  term.expect_keys({});
  return Bits{.text = term.name, .k = found->k, .v = found->v};
}

Bits bits_named(const std::string& text) {
  const std::vector<Term> terms = parse_terms(text);
  require(terms.size() == 1, "bits has \"{}\", expected one format", excerpt(text));
  const std::optional<Bits> bits = make_bits(terms.front());
  require(bits.has_value(), "bits has \"{}\", expected one of {}", excerpt(terms.front().name),
          fmt::join(bits_names(), " "));
  return *bits;
}

bool take_bits(const Term& term, const KvShape& shape, Parts& parts) {
  const bool by_layer = term.name == "bits";
  const std::optional<Bits> plain = by_layer ? std::nullopt : make_bits(term);
  if (!by_layer && !plain) return false;
  require(parts.bits_term.empty(), "two bits terms, {} and {}; expected at most one", parts.bits_term, term.name);
  parts.bits_term = term.name;
  if (plain) {
    std::ranges::fill(parts.bits, *plain);
    return true;
  }
  const auto named = parse_per_layer(term, shape.layers);
  for (std::size_t layer = 0; layer < named.size(); ++layer)
    if (!named[layer].empty()) parts.bits[layer] = bits_named(named[layer]);
  return true;
}

std::shared_ptr<const TokenPolicy> policy_named(const std::string& text) {
  const std::vector<Term> terms = parse_terms(text);
  require(terms.size() == 1, "tokens has \"{}\", expected one token method", excerpt(text));
  if (terms.front().name == "full" && terms.front().arguments.empty()) return nullptr;
  std::shared_ptr<const TokenPolicy> policy = make_token_policy(terms.front());
  require(policy != nullptr, "tokens has \"{}\", expected full or one of {}", excerpt(terms.front().name),
          fmt::join(token_policy_names(), " "));
  return policy;
}

bool take_tokens(const Term& term, const KvShape& shape, Parts& parts) {
  const bool by_layer = term.name == "tokens";
  const std::shared_ptr<const TokenPolicy> plain = by_layer ? nullptr : make_token_policy(term);
  if (!by_layer && plain == nullptr) return false;
  require(parts.tokens_term.empty(), "two token terms, {} and {}; expected at most one", parts.tokens_term, term.name);
  parts.tokens_term = by_layer ? term.name : plain->text();
  if (!by_layer) {
    std::ranges::fill(parts.tokens, plain);
    return true;
  }
  std::map<std::string, std::shared_ptr<const TokenPolicy>> made;  // layers of one range share theirs
  const auto named = parse_per_layer(term, shape.layers);
  for (std::size_t layer = 0; layer < named.size(); ++layer) {
    if (named[layer].empty()) continue;
    const auto [at, is_new] = made.try_emplace(named[layer]);
    if (is_new) at->second = policy_named(named[layer]);
    parts.tokens[layer] = at->second;
  }
  return true;
}

void take_grid(const Term& term, Parts& parts) {
  require(parts.grid == 0, "grid comes twice");
  parts.grid = parse_integer("the distance of grid", term.only_value("a number of tokens"), 1, kMaxGrid);
}

Parts take_terms(const std::vector<Term>& terms, const KvShape& shape, UpwardMaps upward) {
  Parts parts;
  parts.layers = own_layers(shape);
  parts.tokens.resize(static_cast<std::size_t>(shape.layers));
  parts.bits.resize(static_cast<std::size_t>(shape.layers), bits_named("f16"));
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
    } else if (!take_layers(term, shape, upward, parts) && !take_tokens(term, shape, parts) &&
               !take_bits(term, shape, parts)) {
      fail_unknown(term.name);
    }
  }
  require(!parts.full ||
              (parts.layers_term.empty() && parts.tokens_term.empty() && parts.bits_term.empty() && !parts.rotate),
          "full stands for all three axes, so it goes with grid only");
  return parts;
}

// One value for all layers as it is, else by layers; empty values are what is not said.
std::string print_axis(std::string_view name, const std::vector<std::string>& values) {
  const bool same = std::ranges::adjacent_find(values, std::not_equal_to()) == values.end();
  return same ? values.front() : print_per_layer(name, values);
}

std::string print(const std::string& layers, const Parts& parts) {
  std::vector<std::string> tokens, bits, terms;
  for (const auto& policy : parts.tokens) tokens.push_back(policy == nullptr ? "" : policy->text());
  for (const Bits& format : parts.bits) bits.push_back(format.text == "f16" ? "" : format.text);
  for (const std::string& term : {layers, print_axis("tokens", tokens), print_axis("bits", bits)})
    if (!term.empty()) terms.push_back(term);
  if (parts.rotate) terms.emplace_back("rotate");
  if (terms.empty()) terms.emplace_back("full");
  if (parts.grid > 0) terms.push_back(fmt::format("grid({})", parts.grid));
  return fmt::format("{}", fmt::join(terms, " + "));
}

// What the layers that write a slot were given, which must be the same.
std::vector<SlotSpec> slots_of(const LayerMap& layers, const Parts& parts) {
  std::vector<SlotSpec> slots;
  for (const auto& writers : layers.writers) {
    const auto first = static_cast<std::size_t>(index(writers.front()));
    for (const LayerId writer : writers) {
      const auto layer = static_cast<std::size_t>(index(writer));
      const bool same_bits = parts.bits[layer].text == parts.bits[first].text;
      require(same_bits && parts.tokens[layer] == parts.tokens[first],
              "layers {} and {} share their rows, but are given different {}", first, layer,
              same_bits ? "tokens" : "bits");
    }
    const Bits& bits = parts.bits[first];
    slots.push_back({.tokens = parts.tokens[first], .k = bits.k, .v = bits.v, .kivi = bits.kivi});
  }
  return slots;
}

// Error where layers would have to agree on rows that one of them never got.
void check_pruning(const KvSpec& spec) {
  const auto prunes = [](const SlotSpec& slot) { return slot.tokens != nullptr && slot.tokens->prunes(); };
  const auto pruned = std::ranges::find_if(spec.slots, prunes);
  if (pruned == spec.slots.end()) return;
  const std::string name = pruned->tokens->text();
  require(std::ranges::all_of(spec.slots, [&](const SlotSpec& slot) { return slot.tokens == pruned->tokens; }),
          "{} decides what reaches the layers above, so all layers need it", name);
  require(spec.grid == 0, "{} needs a prompt as a whole, grid cuts it", name);
  for (int i = 0; i < spec.layers.slots(); ++i)
    require(spec.layers.views(SlotId{i}) == 1, "{} leaves the two layers of a pair other rows, minicache merges them",
            name);
}

// Error for a policy that cannot work on these layers.
void check(const KvSpec& spec) {
  check_pruning(spec);
  for (int i = 0; i < spec.layers.slots(); ++i) {
    const auto& policy = spec[SlotId{i}].tokens;
    if (policy == nullptr) continue;
    require(!policy->observes({.phase = Phase::kPrompt, .prompt_end = 1}).any() || !spec.layers.cyclic(),
            "{} measures attention, but layers that read higher ones run over a prompt several times", policy->text());
    const Kivi& kivi = spec[SlotId{i}].kivi;
    constexpr Pos kLong = 1 << 30;
    const bool again = policy->selects({.phase = Phase::kDecode, .length = kLong, .appended = kLong}) ||
                       (spec.grid > 0 && policy->selects({.phase = Phase::kPrompt, .length = kLong}));
    require(!kivi || policy->oldest_first() || !again,
            "{} drops rows from among encoded ones, but keys of {} share scales and cannot close ranks", policy->text(),
            kivi.text());
    require(policy->probes() == 0 || spec.grid == 0,
            "{} looks at a whole prompt before any of it is committed, grid({}) commits on the way", policy->text(),
            spec.grid);
    require(policy->probes() == 0 || policy->probes() == spec.probes(),
            "{} asks about pieces of {} tokens, another layer's method about {}: expected the same", policy->text(),
            policy->probes(), spec.probes());
    require(policy->probes() == 0 || spec.layers.window(SlotId{i}) == 0,
            "{} asks for a prompt that layers with a sliding window no longer see: give it to the others, tokens(…)",
            policy->text());
    require(!policy->reads_keys(Phase::kPromptEnd) || spec.layers.views(SlotId{i}) == 1,
            "{} goes by the norms of keys, minicache merges keys", policy->text());
    require(!policy->reads_rows(Phase::kPromptEnd) || spec.layers.views(SlotId{i}) == 1,
            "{} goes by each layer's own keys and values, minicache merges them", policy->text());
  }
}

KvSpec parse_file(const std::string& file, const KvShape& shape, UpwardMaps upward) {
  const std::string text = load_policy(file, shape);
  try {
    return KvSpec::parse(text, shape, upward);
  } catch (const Error& error) {
    fail("{}: field \"kv_spec\": {}", file, error.what());
  }
}

}  // namespace

KvSpec KvSpec::parse(std::string_view text, const KvShape& shape, UpwardMaps upward) {
  if (names_policy(text)) return parse_file(std::string(text), shape, upward);
  KvSpec spec;
  try {
    const Parts parts = take_terms(parse_terms(text), shape, upward);
    spec.layers = parts.layers.map;
    spec.minicache = parts.layers.minicache;
    spec.slots = slots_of(spec.layers, parts);
    spec.rotate = parts.rotate;
    spec.grid = parts.grid;
    spec.text_ = print(parts.layers.text, parts);
    spec.key_ = print(parts.layers.key, parts);
    check(spec);
  } catch (const Error& error) {  // the parts know what is wrong, the user also needs to see where
    fail("kv spec \"{}\": {}", excerpt(text), error.what());
  }
  return spec;
}

std::string KvSpec::why_no_prefix_reuse() const {
  for (const SlotSpec& slot : slots)
    if (slot.tokens != nullptr && slot.tokens->request_bound())
      return fmt::format("the rows that {} keeps depend on the request's own queries", slot.tokens->text());
  if (!layers.cyclic()) return {};
  return "the rows of a prompt depend on where its steps were cut, because layers read rows from above in passes";
}

bool KvSpec::same_prompt(const KvSpec& other) const {
  const auto unlike = [](const KvSpec& spec) { return spec.grid > 0 || spec.prunes() || spec.layers.cyclic(); };
  if (unlike(*this) || unlike(other) || rotate != other.rotate) return false;
  if (layers.routes.size() != other.layers.routes.size()) return false;
  const auto stored = [](const KvSpec& spec, const Route& route) {
    const std::vector<LayerId>& writers = spec.layers.writers[static_cast<std::size_t>(index(route.reads))];
    const SlotSpec& slot = spec[route.reads];
    // a pair's rows are merged when the prompt ends
    return std::tuple(writers.size() > 1 ? writers[static_cast<std::size_t>(route.view)] : writers.front(),
                      raw_format(slot.k), raw_format(slot.v), route.writes.has_value(), route.lagged, route.window);
  };
  return std::ranges::equal(layers.routes, other.layers.routes, [&](const Route& ours, const Route& theirs) {
    return stored(*this, ours) == stored(other, theirs);
  });
}

Format KvSpec::widest() const {
  const bool any =
      std::ranges::any_of(slots, [](const SlotSpec& s) { return s.k == Format::kF32 || s.v == Format::kF32; });
  return any ? Format::kF32 : Format::kF16;
}

Pos KvSpec::probes() const {
  Pos most = 0;
  for (const SlotSpec& slot : slots) most = std::max(most, slot.tokens ? slot.tokens->probes() : 0);
  return most;
}

bool KvSpec::observes() const {
  return std::ranges::any_of(slots, [](const SlotSpec& s) {
    return s.tokens != nullptr && s.tokens->observes({.phase = Phase::kPrompt, .prompt_end = 1}).any();
  });
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
