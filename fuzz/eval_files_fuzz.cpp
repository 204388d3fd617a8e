// SPDX-License-Identifier: Apache-2.0
// Any bytes as a file that `lamina eval` reads. The first byte says which: a letter from "a" on for each task of
// multiple-choice questions, then questions of GSM8K's form, passkeys and a base's logits.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/error.h"
#include "engine/base_file.h"
#include "engine/choice_data.h"
#include "engine/generation.h"
#include "engine/passkey.h"
#include "fuzz/scratch_file.h"

namespace {

void read_choice_items(const std::string& task, const std::string& path) {
  for (const int shots : {0, 1})
    for (const lamina::ChoiceItem& item :
         lamina::read_choices({.task = task, .file = path, .shots = shots, .seed = 1})) {
      if (item.choices.size() < 2 || item.answer >= item.choices.size()) std::abort();
      for (const auto& choice : item.choices)
        if (choice.characters > choice.continuation.size() + choice.context.size()) std::abort();
    }
}

void read_base(const std::string& path) {
  const lamina::BaseFile base(path);
  base.expect(base.text());
  std::vector<float> logits(base.text().vocab);
  for (std::size_t row = 0; row < base.text().rows(); ++row) base.read(row, logits);
}

void read(std::size_t kind, const std::string& path, const std::string& text) {
  const auto& tasks = lamina::choice_tasks();
  if (kind < tasks.size()) return read_choice_items(tasks[kind].name, path);
  if (kind == tasks.size())
    for (const auto& item : lamina::read_questions("fuzz", text, {.shots = 1, .limit = 0}))
      if (item.answer.empty()) std::abort();
  if (kind == tasks.size() + 1)
    for (const auto& item : lamina::read_passkeys("fuzz", text))
      if (item.questions.empty()) std::abort();
  if (kind == tasks.size() + 2) read_base(path);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static ScratchFile scratch;
  if (size < 1 || data[0] < 'a') return 0;
  const std::span content(data + 1, size - 1);
  try {
    read(static_cast<std::size_t>(data[0] - 'a'), scratch.holding(content), {content.begin(), content.end()});
  } catch (const lamina::Error&) {  // what a wrong file should cause
  }
  return 0;
}
