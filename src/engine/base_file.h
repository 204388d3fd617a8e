// SPDX-License-Identifier: Apache-2.0
// A base's logits in a file, so that one run of it serves many comparisons.
//
//   "LAMBASE\n"  u32 version  u32 bytes of the header  header: JSON, the fields of BaseText but the tokens
//   i32 tokens [window][size]
//   rows [window][scored token] of { f32 top, f32 depth, u16 codes [vocab], 2 bytes if vocab is odd }
//
// A row's log-probabilities are top - depth (code / 65535)^2. The square puts the digits where the probability is: the
// most likely token's is exact, one that is d nats below it is off by at most sqrt(d depth) / 65535 (plus depth /
// 2^34). Of SmolLM2, whose rows are 30 nats deep, that is 0.0002 at d = 7 and 0.0005 at the far end.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/mapped_file.h"
#include "base/new_file.h"
#include "base/thread_pool.h"
#include "model/forward.h"

namespace lamina {

// What a base's rows are of.
struct BaseText {
  std::string model{};          // its name, for messages
  std::string identity{};       // model_identity()
  std::string spec{};           // the KV spec that the rows were computed under
  std::string protocol{};       // "windows" or "continuations" (engine/score.h)
  std::size_t vocab = 0;        // logits of a row
  std::size_t windows = 0;      // of the text
  std::size_t size = 0;         // tokens of a window
  std::size_t first = 0;        // its first scored token; in "continuations" the prompt's length
  std::vector<Token> tokens{};  // [window][size]

  std::size_t scored() const { return size - first; }  // tokens of a window
  std::size_t rows() const { return windows * scored(); }
};

class BaseWriter {
 public:
  BaseWriter(const std::string& path, const BaseText& text);
  // The next rows, logits [n][vocab]. Error if one is not finite.
  void add(std::span<const float> logits, ThreadPool& pool);
  void finish();  // after the last row: only now is there a file

 private:
  NewFile file_;
  std::size_t vocab_, rows_left_;
  std::vector<std::byte> buffer_;  // [row][row_bytes]
};

class BaseFile {
 public:
  explicit BaseFile(const std::string& path);  // Error if it is none, or not whole
  const BaseText& text() const { return text_; }
  // Error that names the first of model, layout and tokens that is another one. The spec may be any.
  void expect(const BaseText& wanted) const;
  // Row `row` as logits [vocab]: its log-probabilities.
  void read(std::size_t row, std::span<float> logits) const;

 private:
  void read_header();

  std::string path_;
  MappedFile file_;
  BaseText text_;
  std::size_t first_row_ = 0;  // bytes before it
};

}  // namespace lamina
