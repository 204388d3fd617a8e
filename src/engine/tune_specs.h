// SPDX-License-Identifier: Apache-2.0
// What `lamina tune` chooses from: specs of one axis and of several that fit a budget of bytes, as plan_kv counts them.
#pragma once
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kv/spec.h"

namespace lamina {

// How many bytes a cache may hold after a prompt and some decoded tokens.
struct ByteBudget {
  KvShape shape;
  Pos prompt = 0, decoded = 0;
  std::size_t most = 0;

  std::size_t bytes(const std::shared_ptr<const KvSpec>& spec) const;
  std::size_t dense() const;
};

// The axes on which a spec is not the dense cache.
struct Axes {
  bool layers = false, tokens = false, bits = false;
  int count() const { return int{layers} + int{tokens} + int{bits}; }
  std::string text() const;  // "layers + tokens", "none"
  bool operator==(const Axes&) const = default;
};
Axes axes_of(const KvSpec& spec, const KvShape& shape);

struct Candidate {
  std::shared_ptr<const KvSpec> spec;
  Axes axes{};
  std::size_t bytes = 0;  // at the budget's length: planned, then as measured
  // The same parts at another budget. Empty where there is no choice.
  std::function<std::optional<Candidate>(const ByteBudget& budget)> remade{};
};

// Null where the text does not fit the model.
std::shared_ptr<const KvSpec> spec_if_possible(const std::string& text, const KvShape& shape);
// Empty where it does not fit the model or the budget.
std::optional<Candidate> candidate_if_fits(const std::string& text, const ByteBudget& budget);
// Terms joined by " + ", empty ones left out; "full" of none.
std::string joined_terms(const std::vector<std::string>& terms);

struct TokenMethod {
  std::string name;
  std::function<std::string(double keep)> term;  // that keeps this share of a prompt's rows
  bool by_layer = true;                          // worth to be asked of each layer alone
};
// Those that can be told what to keep. KVzip's is for layers without a window.
std::vector<TokenMethod> token_methods(const KvShape& shape);
std::string share_text(double share);  // "0.25", in ten thousandths
// The spec that keeps the largest share, in thousandths, of those that fit; `other` holds the other axes' terms.
std::optional<Candidate> largest_keep(const TokenMethod& method, const std::string& other, const ByteBudget& budget);

struct RowBits {
  std::string format;  // "k4v4"
  bool rotate = false;
  std::string term() const;
};
// Formats but f16, each with and without rotation.
std::vector<RowBits> row_bits();

// Every spec of one axis at the budget, without those whose bytes depend on the text or on what layers cost.
std::vector<Candidate> single_axis_candidates(const ByteBudget& budget);
// Each format with each method, which keeps what the budget leaves; and with each of these terms of the layers axis.
std::vector<Candidate> combined_candidates(std::span<const TokenMethod> methods, std::span<const RowBits> bits,
                                           std::span<const std::string> layer_terms, const ByteBudget& budget);

}  // namespace lamina
