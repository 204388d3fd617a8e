// SPDX-License-Identifier: Apache-2.0
// What FastGen's tests share: a head whose attention is known, and a slow re-statement of the rules.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "kv/token_policies.h"
#include "kv/tokens/fastgen.h"

namespace lamina::testing {

inline FastGenPolicy policy(std::string_view text) { return FastGenPolicy(parse_terms(text).at(0)); }

using Map = std::vector<std::vector<double>>;  // [query][row <= query], each row sums to 1
using Classes = std::vector<TokenClass>;
using Positions = std::set<Pos>;

constexpr TokenClass kWord = TokenClass::kOther, kSpecial = TokenClass::kSpecial, kPunct = TokenClass::kPunctuation,
                     kBlank = TokenClass::kBlank;

// T12: <s> w , w w .
inline const Map kMap = {
    {1}, {.8, .2}, {.7, .1, .2}, {.6, .05, .15, .2}, {.5, .2, .1, .05, .15}, {.5, .05, .15, .05, .05, .2}};
inline const Classes kClasses = {kSpecial, kWord, kPunct, kWord, kWord, kPunct};

// The rows of one KV head, as the cache holds them.
struct Head {
  std::vector<Pos> pos;
  std::vector<float> mass;  // [row][column]
  Classes classes;
  int columns = 0, kinds = 1;
  std::uint8_t tag = 0;

  // After a prompt in which the query heads attended as `maps`.
  static Head prompt(const FastGenPolicy& tokens, const std::vector<Map>& maps, const Classes& classes) {
    const auto n = static_cast<Pos>(classes.size());
    const Observe what = tokens.observes({.phase = Phase::kPromptEnd, .prompt_end = n});
    const auto group = static_cast<int>(maps.size());
    Head head{.pos = {}, .mass = {}, .classes = classes, .columns = what.columns(group), .kinds = what.kinds()};
    for (Pos row = 0; row < n; ++row) {
      head.pos.push_back(row);
      std::vector<double> sums(static_cast<std::size_t>(head.columns));
      for (std::size_t q = 0; q < maps.size(); ++q) {
        const std::size_t first = what.by_query_head ? q * 2 : 0;
        for (Pos query = row; query < n; ++query) {
          const double a = maps[q][static_cast<std::size_t>(query)][static_cast<std::size_t>(row)];
          sums.at(first) += a;
          if (query - row >= what.far) sums.at(first + 1) += a;
        }
      }
      head.mass.insert(head.mass.end(), sums.begin(), sums.end());
    }
    return head;
  }

  HeadRows rows() {
    return {.pos = pos, .mass = mass, .columns = columns, .kinds = kinds, .classes = classes, .tag = &tag};
  }

  // What commit does: the rows that are not kept go, and after a prompt only the sum of all attention stays.
  void select(const FastGenPolicy& tokens, const Step& step) {
    const HeadRows set = rows();
    std::vector<Keep> keep(1);
    tokens.select(step, {&set, 1}, keep);
    EXPECT_TRUE(std::ranges::is_sorted(keep[0]));
    const bool decodes = tokens.observes({.length = step.length, .prompt_end = step.length}).any();
    std::vector<Pos> kept_pos;
    std::vector<float> kept_mass;
    for (const std::uint32_t row : keep[0]) {
      kept_pos.push_back(pos.at(row));
      if (decodes) kept_mass.push_back(static_cast<float>(set.total(row)));
    }
    pos = kept_pos, mass = kept_mass, columns = decodes ? 1 : 0, kinds = 1;
  }

  // A token of class `kind` that gives the rows, itself included, these shares.
  void append(Pos at, TokenClass kind, const std::vector<double>& attention) {
    pos.push_back(at);
    classes.push_back(kind);
    if (columns == 0) return;
    mass.push_back(0);
    for (std::size_t row = 0; row < pos.size(); ++row) mass[row] += static_cast<float>(attention.at(row));
  }

  Positions held() const { return {pos.begin(), pos.end()}; }
};

inline Map random_map(std::mt19937& random, std::size_t n) {
  std::gamma_distribution<double> uneven(0.3);
  Map map;
  for (std::size_t q = 0; q < n; ++q) {
    map.emplace_back();
    double sum = 0;
    for (std::size_t row = 0; row <= q; ++row) sum += map.back().emplace_back(uneven(random) + 1e-9);
    for (double& x : map.back()) x /= sum;
  }
  return map;
}

inline Classes random_classes(std::mt19937& random, std::size_t n) {
  std::discrete_distribution<int> kind({12, 1, 2, 1});
  Classes classes;
  for (std::size_t i = 0; i < n; ++i) classes.push_back(static_cast<TokenClass>(kind(random)));
  return classes;
}

// The rules again, row by row and in no hurry: what a head holds, with the sums that its rows have.
struct Slow {
  std::vector<std::string> parts;  // of its policy; "full" alone: everything
  double recent = .3, frequent = .3;
  bool reselect = false;

  bool has(const std::string& part) const { return std::ranges::find(parts, part) != parts.end(); }

  Positions keep(const Head& head, Pos length, Pos prompt, bool at_prompt_end) const {
    if (has("full")) return head.held();
    const auto budget = static_cast<std::size_t>(std::ceil(frequent * length - 1e-9));
    const Pos window = std::max(1, static_cast<Pos>(recent * prompt + 1e-9));
    Positions result, open;
    for (const Pos pos : head.pos) {
      const TokenClass kind = head.classes[static_cast<std::size_t>(pos)];
      const bool fixed = (has("special") && (kind == kSpecial || pos == 0)) ||
                         (has("punct") && (kind == kPunct || kind == kBlank)) ||
                         (has("local") && length - pos <= window);
      (fixed ? result : open).insert(pos);
    }
    if (!has("frequent")) return result;
    const auto score = [&](Pos pos) {
      return head.mass[static_cast<std::size_t>(std::ranges::find(head.pos, pos) - head.pos.begin()) *
                       static_cast<std::size_t>(head.columns)];
    };
    if (at_prompt_end || reselect) {
      Positions best = head.held();
      while (best.size() > budget) best.erase(weakest(best, score));
      result.insert(best.begin(), best.end());
    } else {
      const Pos newest = length - 1;
      while (open.size() > budget) {
        Positions judged = open;
        judged.erase(newest);
        if (judged.empty()) break;
        open.erase(weakest(judged, score));
      }
      result.insert(open.begin(), open.end());
    }
    return result;
  }

  template <class Score>
  static Pos weakest(const Positions& rows, Score score) {
    Pos result = *rows.begin();
    for (const Pos pos : rows)
      if (score(pos) <= score(result)) result = pos;  // of equals the higher position goes
    return result;
  }
};

}  // namespace lamina::testing
