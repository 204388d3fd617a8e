// SPDX-License-Identifier: Apache-2.0
#include "kv/spec_parser.h"

#include <algorithm>
#include <charconv>

#include "base/error.h"

namespace lamina {
namespace {

constexpr std::size_t kMaxSpecBytes = 8192;  // a map of hundreds of layers and the longest path fit
constexpr std::size_t kExcerptBytes = 160;

bool is_blank(char c) { return c == ' ' || c == '\t'; }
bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }
bool is_name(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'; }

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

// Length of the UTF-8 character at the front of `text`; 0 when there is none (overlong forms and surrogates included).
std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U; };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  const std::size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0U) != 0x80) return 0;
  }
  const unsigned second = byte(1);
  const bool bad = (first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) ||
                   (first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f);
  return bad ? 0 : length;
}

// Specs are printed in tables, error lines and JSON: none of these can hold control characters or broken UTF-8.
void require_printable(std::string_view spec) {
  require(spec.size() <= kMaxSpecBytes, "it has {} bytes, expected at most {}", spec.size(), kMaxSpecBytes);
  for (std::size_t at = 0; at < spec.size();) {
    const std::size_t length = utf8_length(spec.substr(at));
    require(length > 0, "byte {} is not valid UTF-8", at);
    require(is_blank(spec[at]) || !is_control(spec[at]), "byte {} is the control character 0x{:02x}", at,
            static_cast<unsigned char>(spec[at]));
    at += length;
  }
}

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  std::vector<Term> terms() {
    std::vector<Term> result;
    do {
      result.push_back(term());
    } while (skip('+'));
    require(at_end(), "found {} after the term {}, expected \"+\" or the end", here(), result.back().name);
    return result;
  }

 private:
  Term term() {
    skip_blanks();
    Term result;
    while (at_ < text_.size() && is_name(text_[at_])) result.name += text_[at_++];
    require(!result.name.empty(), "found {} where a term was expected", here());
    if (!skip('(') || skip(')')) return result;
    do {
      result.arguments.push_back(argument(result.name));
    } while (skip(','));
    require(skip(')'), "found {} in the arguments of {}, expected \",\" or \")\"", here(), result.name);
    return result;
  }

  Argument argument(const std::string& term_name) {
    skip_blanks();
    Argument result;
    const std::size_t key_end = text_.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_-", at_);
    if (key_end != std::string_view::npos) {
      const std::string_view key = text_.substr(at_, key_end - at_);
      const std::size_t equals = text_.find_first_not_of(" \t", key_end);
      if (!key.empty() && equals != std::string_view::npos && text_[equals] == '=') {
        result.key = key;
        at_ = equals + 1;
        skip_blanks();
      }
    }
    result.value = at_ < text_.size() && text_[at_] == '"' ? quoted_value(term_name) : bare_value();
    require(!result.value.empty(), "an argument of {} is empty{}", term_name,
            result.key.empty() ? "" : ", expected a value after " + result.key + "=");
    return result;
  }

  std::string bare_value() {
    std::size_t end = at_;
    for (int open = 0; end < text_.size(); ++end) {
      if (open == 0 && (text_[end] == ',' || text_[end] == ')')) break;
      open += text_[end] == '(' ? 1 : text_[end] == ')' ? -1 : 0;
    }
    const std::string_view value = trimmed(text_.substr(at_, end - at_));
    at_ = end;
    return std::string(value);
  }

  std::string quoted_value(const std::string& term_name) {
    std::string value;
    for (++at_; at_ < text_.size() && text_[at_] != '"'; ++at_) {
      if (text_[at_] == '\\') {
        ++at_;
        require(at_ < text_.size() && (text_[at_] == '"' || text_[at_] == '\\'),
                "found {} after a \\ in the quotes of {}, expected \\\" or \\\\", here(), term_name);
      }
      value += text_[at_];
    }
    require(at_ < text_.size(), "the quotes in the arguments of {} are not closed", term_name);
    ++at_;
    return value;
  }

  void skip_blanks() {
    while (at_ < text_.size() && is_blank(text_[at_])) ++at_;
  }
  bool skip(char c) {
    skip_blanks();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  bool at_end() {
    skip_blanks();
    return at_ == text_.size();
  }
  std::string here() const {
    return at_ < text_.size() ? fmt::format("\"{}\"", text_.substr(at_, utf8_length(text_.substr(at_)))) : "the end";
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace

void Term::expect_keys(std::initializer_list<std::string_view> keys) const {
  require(keys.size() > 0 || arguments.empty(), "{} takes no arguments, found \"{}\"", name,
          arguments.empty() ? "" : arguments.front().value);
  for (const Argument& argument : arguments) {
    require(std::ranges::find(keys, std::string_view(argument.key)) != keys.end(),
            "{} has the unknown argument \"{}\", expected one of {}=", name,
            argument.key.empty() ? argument.value : argument.key + "=", fmt::join(keys, "=, "));
    require(find(argument.key) == &argument.value, "{} has the argument {}= twice", name, argument.key);
  }
}

void Term::expect_keys_and_flags(std::initializer_list<std::string_view> keys,
                                 std::initializer_list<std::string_view> flags) const {
  Term named = *this;
  std::erase_if(named.arguments, [](const Argument& argument) { return argument.key.empty(); });
  if (!named.arguments.empty()) named.expect_keys(keys);
  for (const Argument& argument : arguments) {
    if (!argument.key.empty()) continue;
    require(std::ranges::find(flags, std::string_view(argument.value)) != flags.end(),
            "{} has the unknown argument \"{}\", expected one of {}=, or {}", name, argument.value,
            fmt::join(keys, "=, "), fmt::join(flags, ", "));
    const auto same = [&](const Argument& a) { return a.key.empty() && a.value == argument.value; };
    require(std::ranges::count_if(arguments, same) == 1, "{} has the argument {} twice", name, argument.value);
  }
}

bool Term::flag(std::string_view word) const {
  return std::ranges::any_of(arguments, [&](const Argument& a) { return a.key.empty() && a.value == word; });
}

const std::string& Term::only_value(std::string_view what) const {
  require(arguments.size() == 1 && arguments.front().key.empty(), "{} has {}, expected {}({})", name,
          arguments.empty()       ? "no argument"
          : arguments.size() == 1 ? "the argument " + arguments.front().key + "="
                                  : fmt::format("{} arguments", arguments.size()),
          name, what);
  return arguments.front().value;
}

void Term::expect_value_and_keys(std::initializer_list<std::string_view> keys) const {
  Term named = *this;
  std::erase_if(named.arguments, [](const Argument& argument) { return argument.key.empty(); });
  named.expect_keys(keys);
  require(arguments.size() <= named.arguments.size() + 1, "{} has {} bare values, expected one", name,
          arguments.size() - named.arguments.size());
}

const std::string& Term::bare(std::string_view what) const {
  const std::string* const value = find("");
  require(value != nullptr, "{} has no value, expected {}({})", name, name, what);
  return *value;
}

const std::string* Term::find(std::string_view key) const {
  const auto found = std::ranges::find(arguments, key, &Argument::key);
  return found == arguments.end() ? nullptr : &found->value;
}

int Term::integer(std::string_view key, int min, int max, int fallback) const {
  const std::string* value = find(key);
  return value == nullptr ? fallback : parse_integer(fmt::format("{} of {}", key, name), *value, min, max);
}

double Term::number(std::string_view key, double min, double max, double fallback) const {
  const std::string* const text = find(key);
  if (text == nullptr) return fallback;
  double value = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value, std::chars_format::fixed);
  require(error == std::errc() && end == text->data() + text->size() && value >= min && value <= max,
          "{} of {} is \"{}\", expected a number from {} to {}", key, name, *text, min, max);
  return value;
}

std::string_view Term::choice(std::string_view key, std::initializer_list<std::string_view> words) const {
  const std::string* const text = find(key);
  if (text == nullptr) return {};
  const auto* const word = std::ranges::find(words, std::string_view(*text));
  require(word != words.end(), "{} of {} is \"{}\", expected one of {}", key, name, *text, fmt::join(words, ", "));
  return *word;
}

std::vector<Term> parse_terms(std::string_view spec) {
  require_printable(spec);
  require(!trimmed(spec).empty(), "it is empty, expected terms such as full or k8v8");
  return Parser(spec).terms();
}

int parse_integer(std::string_view what, std::string_view text, int min, int max) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  require(error == std::errc() && end == text.data() + text.size() && value >= min && value <= max,
          "{} is \"{}\", expected an integer from {} to {}", what, text, min, max);
  return value;
}

std::string quoted(std::string_view value) {
  if (value.find_first_of(" \t,()+=;\"\\") == std::string_view::npos) return std::string(value);
  std::string text = "\"";
  for (const char c : value) {
    if (c == '"' || c == '\\') text += '\\';
    text += c;
  }
  return text + '"';
}

std::string print_term(std::string_view name, const std::vector<std::string>& arguments) {
  return arguments.empty() ? std::string(name) : fmt::format("{}({})", name, fmt::join(arguments, ","));
}

std::string excerpt(std::string_view text) {
  std::string line;
  while (!text.empty() && line.size() < kExcerptBytes) {
    const std::size_t length = utf8_length(text);
    if (length == 0 || is_control(text.front())) {
      line += '?';
    } else {
      line += text.substr(0, length);
    }
    text.remove_prefix(std::max<std::size_t>(length, 1));
  }
  return text.empty() ? line : line + "...";
}

}  // namespace lamina
