// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/strings.h"

#include <algorithm>
#include <charconv>

#include "base/error.h"
#include "text/jinja/value.h"

namespace lamina::jinja {

namespace {

void add_part(std::vector<std::string>& parts, std::string_view part) {
  require(parts.size() < kMaxValueNodes, "a value has more than {} parts", kMaxValueNodes);
  parts.emplace_back(part);
}

// Where the first run of non-space ends.
std::size_t word_end(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t bytes = character_bytes(text, at);
    if (is_space(text.substr(at, bytes))) break;
    at += bytes;
  }
  return at;
}

std::vector<std::string> split_words(std::string_view text, std::int64_t most) {
  std::vector<std::string> parts;
  for (text = strip_left(text); !text.empty(); text = strip_left(text)) {
    if (most >= 0 && static_cast<std::int64_t>(parts.size()) >= most) {
      add_part(parts, text);
      break;
    }
    const std::size_t end = word_end(text);
    add_part(parts, text.substr(0, end));
    text.remove_prefix(end);
  }
  return parts;
}

std::vector<std::string> split_words_right(std::string_view text, std::int64_t most) {
  const std::vector<std::string_view> all = characters(text);
  std::vector<std::string> parts;
  std::size_t end = all.size();
  const auto text_until = [&](std::size_t i) {
    return text.substr(0, i == all.size() ? text.size() : all[i].data() - text.data());
  };
  while (true) {
    while (end > 0 && is_space(all[end - 1])) --end;
    if (end == 0) break;
    if (static_cast<std::int64_t>(parts.size()) >= most) {
      add_part(parts, text_until(end));
      break;
    }
    std::size_t start = end;
    while (start > 0 && !is_space(all[start - 1])) --start;
    add_part(parts, text_until(end).substr(text_until(start).size()));
    end = start;
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

// Removes the underscores that Python allows between digits; empty when one stands elsewhere.
std::optional<std::string> without_underscores(std::string_view text) {
  const auto alphanumeric = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  };
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      out += text[i];
    } else if (i == 0 || i + 1 == text.size() || !alphanumeric(text[i - 1]) || !alphanumeric(text[i + 1])) {
      return std::nullopt;
    }
  }
  return out;
}

}  // namespace

void append_bounded(std::string& out, std::string_view more) {
  require(out.size() + more.size() <= kMaxStringBytes, "a string of more than {} bytes", kMaxStringBytes);
  out += more;
}

std::vector<std::string> split_left(std::string_view text, const std::string* separator, std::int64_t most) {
  if (!separator) return split_words(text, most);
  require(!separator->empty(), "empty separator");
  std::vector<std::string> parts;
  while (most < 0 || static_cast<std::int64_t>(parts.size()) < most) {
    const std::size_t at = text.find(*separator);
    if (at == std::string_view::npos) break;
    add_part(parts, text.substr(0, at));
    text.remove_prefix(at + separator->size());
  }
  add_part(parts, text);
  return parts;
}

std::vector<std::string> split_right(std::string_view text, const std::string* separator, std::int64_t most) {
  if (!separator) return most < 0 ? split_words(text, most) : split_words_right(text, most);
  require(!separator->empty(), "empty separator");
  std::vector<std::string> parts;
  while (most < 0 || static_cast<std::int64_t>(parts.size()) < most) {
    const std::size_t at = text.rfind(*separator);
    if (at == std::string_view::npos) break;
    add_part(parts, text.substr(at + separator->size()));
    text = text.substr(0, at);
  }
  add_part(parts, text);
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string> split_lines(std::string_view text, bool keep_ends) {
  const auto ends_line = [](std::int32_t code) {
    return (code >= 0x0A && code <= 0x0D) || (code >= 0x1C && code <= 0x1E) || code == 0x85 || code == 0x2028 ||
           code == 0x2029;
  };
  std::vector<std::string> lines;
  std::size_t start = 0;
  for (std::size_t at = 0; at < text.size();) {
    std::size_t end = at + character_bytes(text, at);
    if (ends_line(code_point(text.substr(at, end - at)))) {
      if (text[at] == '\r' && end < text.size() && text[end] == '\n') ++end;
      add_part(lines, text.substr(start, (keep_ends ? end : at) - start));
      start = end;
    }
    at = end;
  }
  if (start < text.size()) add_part(lines, text.substr(start));
  return lines;
}

std::string replace_all(std::string_view text, std::string_view old, std::string_view with, std::int64_t most) {
  std::string out;
  std::int64_t done = 0;
  const auto more = [&] { return most < 0 || done < most; };
  if (old.empty()) {  // Python puts the new text around every character
    for (std::string_view character : characters(text)) {
      if (more()) append_bounded(out, with);
      ++done;
      append_bounded(out, character);
    }
    if (more()) append_bounded(out, with);
    return out;
  }
  for (std::size_t at = text.find(old); at != std::string_view::npos && more(); at = text.find(old), ++done) {
    append_bounded(out, text.substr(0, at));
    append_bounded(out, with);
    text.remove_prefix(at + old.size());
  }
  append_bounded(out, text);
  return out;
}

std::string padding(std::string_view fill, std::int64_t width, std::size_t characters) {
  require(count_characters(fill) == 1, "The fill character must be exactly one character long");
  require(width <= static_cast<std::int64_t>(kMaxStringBytes / 4), "a string of more than {} bytes", kMaxStringBytes);
  std::string out;
  for (std::int64_t i = static_cast<std::int64_t>(characters); i < width; ++i) out += fill;
  return out;
}

bool all_cased(std::string_view text, CharacterClass wanted) {
  bool any = false;
  for (std::string_view character : characters(text)) {
    if (is_in(wanted, character)) {
      any = true;
    } else if (is_in(CharacterClass::Cased, character)) {
      return false;
    }
  }
  return any;
}

std::optional<double> parse_float(std::string_view text) {
  const auto digits = without_underscores(strip(text));
  if (!digits) return std::nullopt;
  std::string_view rest = *digits;
  const bool negative = rest.starts_with('-');
  if (negative || rest.starts_with('+')) rest.remove_prefix(1);
  if (rest.empty() || rest[0] == '-' || rest[0] == '+' || rest.find('(') != std::string_view::npos) return std::nullopt;
  double value = 0;
  const auto [end, status] = std::from_chars(rest.data(), rest.data() + rest.size(), value);
  if (end != rest.data() + rest.size() || status == std::errc::invalid_argument) return std::nullopt;
  if (status == std::errc::result_out_of_range) value = std::strtod(std::string(rest).c_str(), nullptr);
  return negative ? -value : value;
}

std::optional<std::int64_t> parse_int(std::string_view text, int base) {
  const auto digits = without_underscores(strip(text));
  if (!digits) return std::nullopt;
  std::string_view rest = *digits;
  const bool negative = rest.starts_with('-');
  if (negative || rest.starts_with('+')) rest.remove_prefix(1);
  const std::string prefix = lower(rest.substr(0, 2));
  for (const auto& [mark, radix] : {std::pair{"0x", 16}, std::pair{"0o", 8}, std::pair{"0b", 2}}) {
    if (prefix == mark && (base == radix || base == 0)) {
      base = radix;
      rest.remove_prefix(2);
      break;
    }
  }
  if (base == 0) base = 10;
  require(base >= 2 && base <= 36, "int() base must be >= 2 and <= 36, or 0");
  if (rest.empty() || rest[0] == '-') return std::nullopt;
  const std::string number = (negative ? "-" : "") + std::string(rest);
  std::int64_t value = 0;
  const auto [end, status] = std::from_chars(number.data(), number.data() + number.size(), value, base);
  require(status != std::errc::result_out_of_range, "an integer does not fit in 64 bits");
  if (status != std::errc{} || end != number.data() + number.size()) return std::nullopt;
  return value;
}

}  // namespace lamina::jinja
