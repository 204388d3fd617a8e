// SPDX-License-Identifier: Apache-2.0
// A template from bytes, rendered on a fixed chat: it gives text or an Error, soon, and leaks nothing.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "text/chat_template.h"

namespace {

const nlohmann::ordered_json& messages() {
  static const auto json = nlohmann::ordered_json::parse(R"([
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Zürich <b>1</b>?", "n": [1, -2, 3.5, null, true]},
    {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}]},
    {"role": "user", "content": [{"type": "text", "text": " a b "}, {"type": "image"}]}])");
  return json;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const lamina::jinja::Limits limits{.steps = 100'000, .output_bytes = 1 << 20};
  try {
    const lamina::ChatTemplate chat(std::string_view(reinterpret_cast<const char*>(data), size), "<s>", "</s>");
    chat.render(messages(), messages(), true, {{"enable_thinking", false}}, {}, limits);
  } catch (const lamina::Error&) {
    // Refused, as it should be.
  }
  return 0;
}
