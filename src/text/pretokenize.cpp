// SPDX-License-Identifier: Apache-2.0
#include "text/pretokenize.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "base/error.h"
#include "text/unicode.h"

namespace lamina {
namespace {

struct Char {
  char32_t code = 0;
  std::uint32_t end = 0;  // byte offset behind it
  std::uint8_t bits = 0;  // CharClass; 0 behind the end of the text, as for a symbol
};

// A text as characters. Each step of a scanner takes the index of a word's first character and returns the index
// behind its last, or the same index where its expression does not match there.
class Scanner {
 public:
  explicit Scanner(std::string_view text) {
    chars_.reserve(text.size());
    for (std::size_t at = 0; at < text.size();) {
      const Utf8Char c = decode_utf8(text, at);
      at += c.bytes;
      const bool valid = c.status == Utf8Status::kValid;
      chars_.push_back({c.code, static_cast<std::uint32_t>(at), valid ? char_class(c.code) : std::uint8_t{0}});
    }
  }

  std::size_t size() const { return chars_.size(); }
  std::uint32_t end_of(std::size_t at) const { return chars_[at].end; }

  std::size_t gpt2_word(std::size_t at) const;
  std::size_t smollm_word(std::size_t at) const;
  std::size_t llama_word(std::size_t at, std::size_t most_digits) const;
  std::size_t tekken_word(std::size_t at) const;

 private:
  char32_t code(std::size_t at) const { return at < size() ? chars_[at].code : 0; }
  bool has(std::size_t at, std::uint8_t bits) const { return at < size() && (chars_[at].bits & bits) != 0; }
  bool is_symbol(std::size_t at) const { return at < size() && (chars_[at].bits & (kLetter | kNumber | kSpace)) == 0; }
  // [^\r\n\p{L}\p{N}]
  bool is_prefix(std::size_t at) const {
    return at < size() && (chars_[at].bits & (kLetter | kNumber | kNewline)) == 0;
  }

  std::size_t run(std::size_t at, std::uint8_t bits) const {
    while (has(at, bits)) ++at;
    return at;
  }
  std::size_t symbols(std::size_t at) const {
    while (is_symbol(at)) ++at;
    return at;
  }

  std::size_t contraction(std::size_t at, bool any_case) const;
  std::size_t spaces(std::size_t at) const;
  std::size_t symbols_and_lines(std::size_t at, char32_t also) const;
  std::size_t lines(std::size_t at) const;
  std::size_t lower_word(std::size_t at) const;
  std::size_t upper_word(std::size_t at) const;

  std::vector<Char> chars_;
};

// 's|'t|'re|'ve|'m|'ll|'d
std::size_t Scanner::contraction(std::size_t at, bool any_case) const {
  if (code(at) != '\'') return at;
  const auto letter = [&](std::size_t i) -> char32_t {
    const char32_t c = code(i);
    if (!any_case) return c;
    if (c == 0x17F) return 's';  // long s folds to s
    return c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c;
  };
  const char32_t first = letter(at + 1);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return at + 2;
  const char32_t second = letter(at + 2);
  const bool two =
      (first == 'r' && second == 'e') || (first == 'v' && second == 'e') || (first == 'l' && second == 'l');
  return two ? at + 3 : at;
}

// \s+(?!\S)|\s+ : a run of white space leaves its last character to the word behind it.
std::size_t Scanner::spaces(std::size_t at) const {
  const std::size_t end = run(at, kSpace);
  return end == size() || end - at < 2 ? end : end - 1;
}

//  ?[^\s\p{L}\p{N}]+[\r\n]* , with `also` (if not 0) as a further character of the tail
std::size_t Scanner::symbols_and_lines(std::size_t at, char32_t also) const {
  const std::size_t from = code(at) == ' ' ? at + 1 : at;
  std::size_t end = symbols(from);
  if (end == from) return at;
  while (has(end, kNewline) || (also != 0 && code(end) == also)) ++end;
  return end;
}

// \s*[\r\n]+ : up to the last line break of a run of white space
std::size_t Scanner::lines(std::size_t at) const {
  std::size_t end = run(at, kSpace);
  while (end > at && !has(end - 1, kNewline)) --end;
  return end;
}

// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
std::size_t Scanner::gpt2_word(std::size_t at) const {
  if (const std::size_t end = contraction(at, false); end > at) return end;
  const std::size_t from = code(at) == ' ' ? at + 1 : at;
  if (const std::size_t end = run(from, kLetter); end > from) return end;
  if (const std::size_t end = run(from, kNumber); end > from) return end;
  if (const std::size_t end = symbols(from); end > from) return end;
  return spaces(at);
}

// First each \p{N} alone, then gpt2_word on what lies between, so that a number ends the text for white space before
// it.
std::size_t Scanner::smollm_word(std::size_t at) const {
  if (has(at, kNumber)) return at + 1;
  const std::size_t spaces_end = run(at, kSpace);
  return has(spaces_end, kNumber) ? spaces_end : gpt2_word(at);
}

// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
// where Qwen 2 has \p{N} for \p{N}{1,3}
std::size_t Scanner::llama_word(std::size_t at, std::size_t most_digits) const {
  if (const std::size_t end = contraction(at, true); end > at) return end;
  const std::size_t from = is_prefix(at) ? at + 1 : at;
  if (const std::size_t end = run(from, kLetter); end > from) return end;
  std::size_t digits = at;
  while (digits < at + most_digits && has(digits, kNumber)) ++digits;
  if (digits > at) return digits;
  if (const std::size_t end = symbols_and_lines(at, 0); end > at) return end;
  if (const std::size_t end = lines(at); end > at) return end;
  return spaces(at);
}

// [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+ : where no lower-case letter follows the greedy first
// part, that part gives back characters down to its last one that the second part takes too.
std::size_t Scanner::lower_word(std::size_t at) const {
  const std::size_t upper = run(at, kUpperish);
  const std::size_t end = run(upper, kLowerish);
  if (end > upper) return end;
  std::size_t back = upper;
  while (back > at && !has(back - 1, kLowerish)) --back;
  return back;
}

// [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*
std::size_t Scanner::upper_word(std::size_t at) const {
  const std::size_t upper = run(at, kUpperish);
  return upper == at ? at : run(upper, kLowerish);
}

// [^\r\n\p{L}\p{N}]? with lower_word, the same with upper_word, then
// \p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+
std::size_t Scanner::tekken_word(std::size_t at) const {
  const std::size_t from = is_prefix(at) ? at + 1 : at;
  if (const std::size_t end = lower_word(from); end > from) return end;
  if (const std::size_t end = lower_word(at); end > at) return end;  // a mark is both prefix and letter
  if (const std::size_t end = upper_word(from); end > from) return end;
  if (const std::size_t end = upper_word(at); end > at) return end;
  if (has(at, kNumber)) return at + 1;
  if (const std::size_t end = symbols_and_lines(at, '/'); end > at) return end;
  if (const std::size_t end = lines(at); end > at) return end;
  return spaces(at);
}

std::size_t next_word(PreTokenizer pre, const Scanner& scanner, std::size_t at) {
  switch (pre) {
    case PreTokenizer::kGpt2:
      return scanner.gpt2_word(at);
    case PreTokenizer::kSmolLM:
      return scanner.smollm_word(at);
    case PreTokenizer::kLlamaBpe:
      return scanner.llama_word(at, 3);
    case PreTokenizer::kQwen2:
      return scanner.llama_word(at, 1);
    case PreTokenizer::kTekken:
      return scanner.tekken_word(at);
  }
  return scanner.size();
}

}  // namespace

std::optional<PreTokenizer> find_pre_tokenizer(std::string_view name) {
  constexpr std::array<std::pair<std::string_view, PreTokenizer>, 10> kNames = {{
      {"default", PreTokenizer::kGpt2},
      {"gpt-2", PreTokenizer::kGpt2},
      {"gpt2", PreTokenizer::kGpt2},
      {"smollm", PreTokenizer::kSmolLM},
      {"llama-bpe", PreTokenizer::kLlamaBpe},
      {"llama3", PreTokenizer::kLlamaBpe},
      {"llama-v3", PreTokenizer::kLlamaBpe},
      {"qwen2", PreTokenizer::kQwen2},
      {"deepseek-r1-qwen", PreTokenizer::kQwen2},
      {"tekken", PreTokenizer::kTekken},
  }};
  const auto* found =
      std::find_if(kNames.begin(), kNames.end(), [&](const auto& entry) { return entry.first == name; });
  return found == kNames.end() ? std::nullopt : std::optional(found->second);
}

std::vector<std::uint32_t> word_ends(PreTokenizer pre, std::string_view text) {
  require(text.size() <= std::numeric_limits<std::uint32_t>::max(), "text of {} bytes, at most 4 GiB", text.size());
  const Scanner scanner(text);
  std::vector<std::uint32_t> ends;
  for (std::size_t at = 0; at < scanner.size();) {
    at = next_word(pre, scanner, at);
    ends.push_back(scanner.end_of(at - 1));
  }
  return ends;
}

}  // namespace lamina
