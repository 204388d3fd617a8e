// SPDX-License-Identifier: Apache-2.0
#include "engine/base_file.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "model/json_field.h"

namespace lamina {
namespace {

constexpr std::string_view kMagic = "LAMBASE\n";
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kMostHeader = 1 << 16;
constexpr std::int64_t kMost = 1 << 24;  // windows, tokens of one, words of a vocabulary
constexpr float kMostCode = 65535;
constexpr std::size_t kRowsAtOnce = 64;  // whose codes are held until they are written

struct RowHead {
  float top = 0, depth = 0;
};

std::size_t row_bytes(std::size_t vocab) { return sizeof(RowHead) + (2 * vocab + 3) / 4 * 4; }

void encode(std::span<const float> logits, std::byte* to) {
  const auto [least, most] = std::ranges::minmax(logits);
  const float depth = most - least;
  double sum = 0;
  for (const float x : logits) sum += std::exp(static_cast<double>(x - most));
  require(std::isfinite(sum) && std::isfinite(depth), "a row of the base has logits that are not finite");
  const RowHead head{.top = static_cast<float>(-std::log(sum)), .depth = depth};
  std::memcpy(to, &head, sizeof head);
  const float scale = depth > 0 ? 1 / depth : 0;
  std::vector<std::uint16_t> codes(logits.size());
  for (std::size_t i = 0; i < logits.size(); ++i)
    codes[i] =
        static_cast<std::uint16_t>(std::lrint(std::sqrt(std::min(1.0F, (most - logits[i]) * scale)) * kMostCode));
  std::memcpy(to + sizeof head, codes.data(), 2 * codes.size());
}

std::string header_of(const BaseText& text) {
  return nlohmann::ordered_json{{"model", text.model},       {"identity", text.identity}, {"spec", text.spec},
                                {"protocol", text.protocol}, {"vocab", text.vocab},       {"windows", text.windows},
                                {"size", text.size},         {"first", text.first}}
      .dump();
}

BaseText parse_header(const std::string& path, std::string_view text) {
  const nlohmann::json json = parse_json(text, path);
  const JsonField header(path, json);
  const auto text_of = [&](const char* key) { return std::string(header.get(key).string()); };
  const auto count = [&](const char* key) { return static_cast<std::size_t>(header.get(key).integer(kMost)); };
  BaseText read{.model = text_of("model"),
                .identity = text_of("identity"),
                .spec = text_of("spec"),
                .protocol = text_of("protocol"),
                .vocab = count("vocab"),
                .windows = count("windows"),
                .size = count("size"),
                .first = count("first")};
  require(read.vocab > 0 && read.windows > 0 && read.first > 0 && read.first < read.size,
          "{}: {} windows of {} tokens scored from {} on, {} logits each: expected some of each", path, read.windows,
          read.size, read.first, read.vocab);
  return read;
}

}  // namespace

BaseWriter::BaseWriter(const std::string& path, const BaseText& text)
    : file_(path), vocab_(text.vocab), rows_left_(text.rows()) {
  assert(text.tokens.size() == text.windows * text.size && text.first < text.size);
  const std::string header = header_of(text);
  const std::uint32_t numbers[] = {kVersion, static_cast<std::uint32_t>(header.size())};
  file_.write(kMagic);
  file_.write(std::as_bytes(std::span(numbers)));
  file_.write(header);
  file_.write(std::as_bytes(std::span(text.tokens)));
}

void BaseWriter::add(std::span<const float> logits, ThreadPool& pool) {
  const std::size_t each = row_bytes(vocab_), rows = logits.size() / vocab_;
  assert(rows <= rows_left_ && logits.size() % vocab_ == 0);
  rows_left_ -= rows;
  buffer_.resize(std::min(rows, kRowsAtOnce) * each);
  for (std::size_t done = 0; done < rows; done += kRowsAtOnce) {
    const std::size_t n = std::min(kRowsAtOnce, rows - done);
    pool.parallel_for(static_cast<int>(n), [&](int task, int) {
      const auto row = static_cast<std::size_t>(task);
      encode(logits.subspan((done + row) * vocab_, vocab_), &buffer_[row * each]);
    });
    file_.write(std::span(buffer_).first(n * each));
  }
}

void BaseWriter::finish() {
  assert(rows_left_ == 0);
  file_.finish();
}

BaseFile::BaseFile(const std::string& path) : path_(path), file_(path) { read_header(); }

void BaseFile::read_header() {
  const std::span<const std::byte> bytes = file_.bytes();
  const std::size_t fixed = kMagic.size() + 2 * sizeof(std::uint32_t);
  require(bytes.size() >= fixed && std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) == 0,
          "{}: no file of base logits (see --save-base): it does not begin with \"LAMBASE\"", path_);
  std::uint32_t numbers[2];
  std::memcpy(numbers, bytes.data() + kMagic.size(), sizeof numbers);
  const auto [version, header] = numbers;
  require(version == kVersion, "{}: version {} of the format, expected {}", path_, version, kVersion);
  require(header <= kMostHeader && bytes.size() >= fixed + header, "{}: cut off in its header, after {} bytes", path_,
          bytes.size());
  text_ = parse_header(path_, {reinterpret_cast<const char*>(bytes.data() + fixed), header});
  const std::size_t tokens = text_.windows * text_.size * sizeof(Token);  // below 2^50, as is the number of rows
  first_row_ = fixed + header + tokens;
  require(
      text_.rows() <= bytes.size() && bytes.size() == first_row_ + text_.rows() * row_bytes(text_.vocab),
      "{}: {} bytes, expected {} for {} tokens and {} rows of {} logits", path_, bytes.size(),
      static_cast<double>(first_row_) + static_cast<double>(text_.rows()) * static_cast<double>(row_bytes(text_.vocab)),
      text_.windows * text_.size, text_.rows(), text_.vocab);
  text_.tokens.resize(text_.windows * text_.size);
  std::memcpy(text_.tokens.data(), bytes.data() + fixed + header, tokens);
}

void BaseFile::expect(const BaseText& wanted) const {
  require(text_.identity == wanted.identity, "{}: logits of the model {} ({:.12}), this one is {} ({:.12})", path_,
          text_.model, text_.identity, wanted.model, wanted.identity);
  require(text_.protocol == wanted.protocol, "{}: logits of {}, asked for are {}", path_, text_.protocol,
          wanted.protocol);
  require(text_.windows == wanted.windows && text_.size == wanted.size && text_.first == wanted.first,
          "{}: {} windows of {} tokens, scored from token {} on; asked for are {} of {} from {} on", path_,
          text_.windows, text_.size, text_.first, wanted.windows, wanted.size, wanted.first);
  require(text_.vocab == wanted.vocab, "{}: {} logits a row, the model has {}", path_, text_.vocab, wanted.vocab);
  const auto at = std::ranges::mismatch(text_.tokens, wanted.tokens);
  require(at.in1 == text_.tokens.end(), "{}: logits of another text: token {} is {}, here it is {}", path_,
          at.in1 - text_.tokens.begin(), at.in1 == text_.tokens.end() ? 0 : *at.in1,
          at.in2 == wanted.tokens.end() ? 0 : *at.in2);
}

void BaseFile::read(std::size_t row, std::span<float> logits) const {
  assert(row < text_.rows() && logits.size() == text_.vocab);
  const std::byte* const from = file_.bytes().data() + first_row_ + row * row_bytes(text_.vocab);
  RowHead head;
  std::memcpy(&head, from, sizeof head);
  const std::byte* code = from + sizeof head;
  const float scale = head.depth / (kMostCode * kMostCode);
  for (float& x : logits) {
    std::uint16_t c = 0;
    std::memcpy(&c, code, sizeof c);
    code += sizeof c;
    x = head.top - scale * (static_cast<float>(c) * static_cast<float>(c));
  }
}

}  // namespace lamina
