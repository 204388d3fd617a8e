// SPDX-License-Identifier: Apache-2.0
#include "text/chat_template.h"

#include <limits>
#include <utility>

#include "base/error.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/parser.h"

namespace lamina {

namespace {

using Json = nlohmann::ordered_json;

jinja::Value to_value(const Json& json, int depth = 0) {
  require(depth < jinja::kMaxValueDepth, "chat template: the input is nested deeper than {} levels",
          jinja::kMaxValueDepth);
  switch (json.type()) {
    case Json::value_t::null:
      return jinja::None{};
    case Json::value_t::boolean:
      return json.get<bool>();
    case Json::value_t::number_unsigned:
      require(json.get<std::uint64_t>() <= std::numeric_limits<std::int64_t>::max(),
              "chat template: the integer {} in the input does not fit in 64 bits", json.get<std::uint64_t>());
      return json.get<std::int64_t>();
    case Json::value_t::number_integer:
      return json.get<std::int64_t>();
    case Json::value_t::number_float:
      return json.get<double>();
    case Json::value_t::string:
      return jinja::Value(json.get_ref<const std::string&>());
    case Json::value_t::array: {
      std::vector<jinja::Value> items;
      for (const Json& item : json) items.push_back(to_value(item, depth + 1));
      return jinja::Value::list(std::move(items));
    }
    case Json::value_t::object: {
      jinja::Dict dict;
      for (const auto& [key, value] : json.items()) dict.insert(jinja::Value(key), to_value(value, depth + 1));
      return jinja::Value(std::make_shared<const jinja::Dict>(std::move(dict)));
    }
    default:
      fail("chat template: the input has a value of type {}, expected JSON", json.type_name());
  }
}

}  // namespace

ChatTemplate::ChatTemplate(std::string_view source, std::string bos_token, std::string eos_token)
    : body_(std::make_shared<const jinja::Body>(jinja::parse(source))),
      bos_token_(std::move(bos_token)),
      eos_token_(std::move(eos_token)) {}

std::string ChatTemplate::render(const Json& messages, const Json& tools, bool add_generation_prompt, const Json& extra,
                                 std::chrono::system_clock::time_point now, const jinja::Limits& limits) const {
  require(messages.is_array(), "chat template: messages are of type {}, expected an array", messages.type_name());
  require(tools.is_null() || tools.is_array(), "chat template: tools are of type {}, expected an array or null",
          tools.type_name());
  require(extra.is_null() || extra.is_object(), "chat template: variables are of type {}, expected an object",
          extra.type_name());
  jinja::Interpreter::Variables variables = {{"messages", to_value(messages)},
                                             {"tools", to_value(tools)},
                                             {"documents", jinja::None{}},
                                             {"add_generation_prompt", add_generation_prompt},
                                             {"bos_token", jinja::Value(bos_token_)},
                                             {"eos_token", jinja::Value(eos_token_)}};
  for (const auto& [name, value] : extra.items()) variables.emplace_back(name, to_value(value));
  return jinja::Interpreter(variables, limits, now).run(*body_);
}

}  // namespace lamina
