// SPDX-License-Identifier: Apache-2.0
#include "engine/tune_specs.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "kv/per_layer.h"
#include "kv/sequence.h"

namespace lamina {
namespace {

constexpr int kBatch = 512;  // of a prompt's steps: what is held after it does not depend on it

std::string h2o(double keep, std::string_view more) {
  const std::string half = share_text(keep / 2);
  return fmt::format("h2o(heavy={},recent={}{})", half, half, more);
}

TokenMethod keeping(const std::string& name, bool by_layer = true, std::string_view more = "") {
  return {.name = name,
          .term = [name, more](double keep) { return fmt::format("{}(keep={}{})", name, share_text(keep), more); },
          .by_layer = by_layer};
}

bool slides(const KvShape& shape, int layer) { return shape.window(LayerId{layer}) > 0; }

std::string kvzip_term(const KvShape& shape, double keep) {
  std::vector<std::string> values(static_cast<std::size_t>(shape.layers));
  for (int layer = 0; layer < shape.layers; ++layer)
    if (!slides(shape, layer))
      values[static_cast<std::size_t>(layer)] = fmt::format("kvzip(keep={})", share_text(keep));
  return print_per_layer("tokens", values);
}

void add(std::vector<Candidate>& all, std::optional<Candidate> one) {
  if (one) all.push_back(std::move(*one));
}

}  // namespace

std::size_t ByteBudget::bytes(const std::shared_ptr<const KvSpec>& spec) const {
  return plan_kv(spec, shape, prompt, decoded, kBatch).steady.total();
}

std::size_t ByteBudget::dense() const { return bytes(std::make_shared<const KvSpec>(KvSpec::parse("full", shape))); }

std::string Axes::text() const {
  std::vector<std::string> names;
  if (layers) names.emplace_back("layers");
  if (tokens) names.emplace_back("tokens");
  if (bits) names.emplace_back("bits");
  return names.empty() ? "none" : fmt::format("{}", fmt::join(names, " + "));
}

Axes axes_of(const KvSpec& spec, const KvShape& shape) {
  const auto is_coded = [](const SlotSpec& s) { return s.k != Format::kF16 || s.v != Format::kF16; };
  return {.layers = spec.layers != own_layers(shape).map,
          .tokens = std::ranges::any_of(spec.slots, [](const SlotSpec& s) { return s.tokens != nullptr; }),
          .bits = std::ranges::any_of(spec.slots, is_coded)};
}

std::shared_ptr<const KvSpec> spec_if_possible(const std::string& text, const KvShape& shape) {
  try {
    return std::make_shared<const KvSpec>(KvSpec::parse(text, shape));
  } catch (const Error&) {  // methods that do not go together, or not with this model
    return nullptr;
  }
}

std::optional<Candidate> candidate_if_fits(const std::string& text, const ByteBudget& budget) {
  auto spec = spec_if_possible(text, budget.shape);
  if (spec == nullptr) return std::nullopt;
  const std::size_t bytes = budget.bytes(spec);
  const Axes axes = axes_of(*spec, budget.shape);
  if (bytes > budget.most) return std::nullopt;
  return Candidate{.spec = std::move(spec), .axes = axes, .bytes = bytes};
}

std::string joined_terms(const std::vector<std::string>& terms) {
  std::vector<std::string> given;
  std::ranges::copy_if(terms, std::back_inserter(given), [](const std::string& term) { return !term.empty(); });
  return given.empty() ? "full" : fmt::format("{}", fmt::join(given, " + "));
}

std::optional<Candidate> largest_keep(const TokenMethod& method, const std::string& other, const ByteBudget& budget) {
  std::optional<Candidate> best;
  for (int low = 0, high = 1000; high - low > 1;) {  // `low` fits or is nothing, `high` does not or is everything
    const int keep = (low + high) / 2;
    std::optional<Candidate> found = candidate_if_fits(joined_terms({method.term(keep / 1000.0), other}), budget);
    (found ? low : high) = keep;
    if (found) best = std::move(found);
  }
  if (best) best->remade = [method, other](const ByteBudget& another) { return largest_keep(method, other, another); };
  return best;
}

std::vector<TokenMethod> token_methods(const KvShape& shape) {
  std::vector<TokenMethod> methods = {
      {.name = "h2o oneshot", .term = [](double keep) { return h2o(keep, ",oneshot"); }},
      // of a layer alone it chooses as the one above does
      {.name = "h2o", .term = [](double keep) { return h2o(keep, ""); }, .by_layer = false},
      keeping("snapkv"),
      keeping("adakv"),
      keeping("pyramidkv", false),
      keeping("expected"),
      keeping("keydiff"),
      keeping("keyl2"),
      keeping("streaming"),
      keeping("pyramidinfer", false, ",recent=0.1")};
  bool all_slide = true;
  for (int layer = 0; layer < shape.layers; ++layer) all_slide = all_slide && slides(shape, layer);
  if (!all_slide)
    methods.push_back(
        {.name = "kvzip", .term = [shape](double keep) { return kvzip_term(shape, keep); }, .by_layer = false});
  return methods;
}

std::string share_text(double share) {
  std::string text = fmt::format("{:.4f}", share);
  while (text.ends_with('0') && !text.ends_with(".0")) text.pop_back();
  return text;
}

std::string RowBits::term() const { return rotate ? format + " + rotate" : format; }

std::vector<RowBits> row_bits() {
  std::vector<RowBits> all;
  for (const char* format : {"k16v8", "k8v16", "k8v8", "k16v4", "k8v4", "k4v16", "k4v8", "k4v4", "k4v2", "k2v2",
                             "kivi4", "kivi4(group=128)", "kivi2", "kivi2(group=128)"})
    for (const bool rotate : {false, true}) all.push_back({.format = format, .rotate = rotate});
  return all;
}

std::vector<Candidate> single_axis_candidates(const ByteBudget& budget) {
  std::vector<Candidate> all;
  for (const RowBits& bits : row_bits()) add(all, candidate_if_fits(bits.term(), budget));
  for (const TokenMethod& method : token_methods(budget.shape)) add(all, largest_keep(method, "", budget));
  for (const char* layers : {"minicache", "minicache(of=v)", "minicache(start=0.0)"})
    add(all, candidate_if_fits(layers, budget));
  return all;
}

std::vector<Candidate> combined_candidates(std::span<const TokenMethod> methods, std::span<const RowBits> bits,
                                           std::span<const std::string> layer_terms, const ByteBudget& budget) {
  std::vector<Candidate> all;
  for (const RowBits& format : bits) {
    for (const TokenMethod& method : methods) add(all, largest_keep(method, format.term(), budget));
    for (const std::string& layers : layer_terms) {
      const std::string both = joined_terms({layers, format.term()});
      auto candidate = candidate_if_fits(both, budget);
      if (!candidate && !methods.empty()) candidate = largest_keep(methods.front(), both, budget);
      add(all, std::move(candidate));
    }
  }
  return all;
}

}  // namespace lamina
