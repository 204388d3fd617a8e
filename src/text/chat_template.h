// SPDX-License-Identifier: Apache-2.0
// The Jinja template that a model file carries: turns the messages of a chat into the prompt that the model was trained
// on, exactly as Hugging Face's apply_chat_template renders it.
#pragma once
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "text/jinja/ast.h"

namespace lamina {

class ChatTemplate {
 public:
  // Parses at once. Throws Error, which names the line and what it found there.
  ChatTemplate(std::string_view source, std::string bos_token, std::string eos_token);

  // messages: an array in the form of OpenAI's API (role, content as text or parts, tool_calls, ...). tools: an array
  // of function schemas, or null. extra: an object of further variables, such as enable_thinking. now: what
  // strftime_now tells. Throws Error for what the template itself rejects, with its message.
  std::string render(const nlohmann::ordered_json& messages, const nlohmann::ordered_json& tools,
                     bool add_generation_prompt, const nlohmann::ordered_json& extra = {},
                     std::chrono::system_clock::time_point now = std::chrono::system_clock::now(),
                     const jinja::Limits& limits = {}) const;

 private:
  std::shared_ptr<const jinja::Body> body_;
  std::string bos_token_, eos_token_;
};

}  // namespace lamina
