// SPDX-License-Identifier: Apache-2.0
#include "engine/text_overlap.h"

#include <algorithm>
#include <set>

namespace lamina {
namespace {

std::size_t longest_common(std::span<const std::string> a, std::span<const std::string> b) {
  std::vector<std::size_t> row(b.size() + 1, 0);  // of the words of `a` so far with the first j of `b`
  for (const std::string& word : a) {
    std::size_t diagonal = 0;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t above = row[j];
      row[j] = word == b[j - 1] ? diagonal + 1 : std::max(above, row[j - 1]);
      diagonal = above;
    }
  }
  return row.back();
}

}  // namespace

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words(1);
  for (const char c : text) {
    const bool is_upper = c >= 'A' && c <= 'Z';
    const bool is_letter = is_upper || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c & 0x80) != 0;
    if (is_letter)
      words.back() += is_upper ? static_cast<char>(c - 'A' + 'a') : c;
    else if (!words.back().empty())
      words.emplace_back();
  }
  if (words.back().empty()) words.pop_back();
  return words;
}

double rouge_l(std::string_view reference, std::string_view text) {
  const std::vector<std::string> a = words_of(reference), b = words_of(text);
  if (a.empty() && b.empty()) return 1;
  return 2 * static_cast<double>(longest_common(a, b)) / static_cast<double>(a.size() + b.size());
}

double repeated_ngrams(std::span<const std::int32_t> tokens, std::size_t n) {
  if (tokens.size() < n) return 0;
  const std::size_t all = tokens.size() - n + 1;
  std::set<std::vector<std::int32_t>> seen;
  for (std::size_t i = 0; i < all; ++i)
    seen.emplace(tokens.begin() + static_cast<std::ptrdiff_t>(i), tokens.begin() + static_cast<std::ptrdiff_t>(i + n));
  return 1 - static_cast<double>(seen.size()) / static_cast<double>(all);
}

std::optional<std::size_t> first_difference(std::span<const std::int32_t> a, std::span<const std::int32_t> b) {
  const auto [x, y] = std::ranges::mismatch(a, b);
  if (x == a.end() && y == b.end()) return std::nullopt;
  return static_cast<std::size_t>(x - a.begin());
}

}  // namespace lamina
