// SPDX-License-Identifier: Apache-2.0
// What texts with something hidden in them are made of: words and sentences of a seed, the same on every machine, and
// as many of them as fit into a length.
#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/ask.h"

namespace lamina {

using CountTokens = std::function<std::size_t(const std::string& text)>;
using Words = std::span<const std::string_view>;

Words city_names();
Words first_names();
Words jobs();
Words instruments();
Words plain_words();  // nouns of one or two syllables

class RandomText {
 public:
  explicit RandomText(std::uint64_t seed) : random_(seed) {}

  std::uint64_t below(std::uint64_t n) { return random_() % n; }
  std::string_view one(Words words) { return words[below(words.size())]; }
  std::vector<std::string> several(Words words, std::size_t n);  // all different; n <= words.size()
  std::vector<std::string> numbers(std::size_t n);               // of five digits, all different
  std::string sentence();                                        // that tells nothing worth asking for
  template <class T>
  void shuffle(std::vector<T>& items) {
    for (std::size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[below(i)]);
  }

 private:
  std::mt19937_64 random_;
};

// `filler` sentences, and among them the given ones at random places, in their order where `ordered`.
std::string hide(RandomText& random, std::vector<std::string> sentences, int filler, bool ordered);

// make(n) for the largest n, the units of filler, that leaves a context with its longest question within `tokens`; each
// question's depth is filled in. Error with the task's name if not even n = 0 does.
using MakeItem = std::function<ContextQuestions(int filler)>;
ContextQuestions fit_length(std::string_view task, std::size_t tokens, const CountTokens& count, const MakeItem& make);

}  // namespace lamina
