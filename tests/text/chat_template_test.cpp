// SPDX-License-Identifier: Apache-2.0
#include "text/chat_template.h"

#include <ctime>

#include "text/golden_case.h"

namespace lamina {
namespace {

using Json = nlohmann::ordered_json;

std::chrono::system_clock::time_point local_time(const Json& fields) {
  std::tm t{};
  t.tm_year = fields[0].get<int>() - 1900;
  t.tm_mon = fields[1].get<int>() - 1;
  t.tm_mday = fields[2];
  t.tm_hour = fields[3];
  t.tm_min = fields[4];
  t.tm_sec = fields[5];
  t.tm_isdst = -1;
  return std::chrono::system_clock::from_time_t(std::mktime(&t));
}

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(ChatTemplate, RendersTheTemplatesOfRealModelsAsPythonDoes) {
  const Json golden = Json::parse(read_golden("chat.json"));
  const auto now = local_time(golden["now"]);
  ASSERT_GE(golden["cases"].size(), 400U);
  for (const Json& item : golden["cases"]) {
    SCOPED_TRACE(item["template"].get<std::string>() + " on " + item["chat"].get<std::string>());
    const Json& chat = golden["chats"][item["chat"].get<std::string>()];
    expect_golden(item, [&] {
      return ChatTemplate(read_golden(item["template"]), "<s>", "</s>")
          .render(chat["messages"], chat["tools"], chat["add_generation_prompt"], chat["extra"], now);
    });
  }
}

TEST(ChatTemplate, IsParsedOnceAndRendersAnyNumberOfTimes) {
  const ChatTemplate chat("{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}", "", "");
  EXPECT_EQ(chat.render({{{"role", "user"}, {"content", "a"}}}, nullptr, true), "user:a;");
  EXPECT_EQ(chat.render({{{"role", "user"}, {"content", "b"}}}, nullptr, true), "user:b;");
  EXPECT_EQ(chat.render(Json::array(), nullptr, true), "");
}

TEST(ChatTemplate, KnowsTheVariablesOfAChat) {
  const ChatTemplate chat(
      "{{ bos_token }}{{ eos_token }}{{ add_generation_prompt }}{{ tools }}{{ documents }}{{ messages }}{{ extra }}",
      "<s>", "</s>");
  EXPECT_EQ(chat.render(Json::array(), nullptr, false, {{"extra", 1.5}}), "<s></s>FalseNoneNone[]1.5");
}

TEST(ChatTemplate, ErrorsNameTheLineAndWhatIsThere) {
  const auto parse = [](const char* source) { return error_of([&] { ChatTemplate(source, "", ""); }); };
  EXPECT_EQ(parse("a\nb\n{% macro_x %}"), "chat template, line 3: unsupported tag \"macro_x\"");
  EXPECT_EQ(parse("{% include 'x' %}"), "chat template, line 1: unsupported tag \"include\"");
  EXPECT_EQ(parse("\n{{ a b }}"), "chat template, line 2: unexpected \"b\", expected end of expression");
  EXPECT_EQ(parse("{% if a %}\n\n"), "chat template, line 2: unexpected end of template, expected \"endif\"");
  const auto render = [](const char* source) {
    return error_of([&] { ChatTemplate(source, "", "").render(Json::array(), nullptr, true); });
  };
  EXPECT_EQ(render("\n\n{{ 'a'|nope }}"), "chat template, line 3: unsupported filter \"nope\"");
  EXPECT_EQ(render("{{ 'a' is nope }}"), "chat template, line 1: unsupported test \"nope\"");
  EXPECT_EQ(render("\n{{ raise_exception('no {} %s') }}"), "chat template, line 2: no {} %s");
  EXPECT_EQ(render("{% set x = 1 %}\n{{ x }}\n{{ messages[0].role.x }}"),
            "chat template, line 3: list object has no element 0");
}

TEST(ChatTemplate, RefusesInputOfTheWrongShape) {
  const ChatTemplate chat("x", "", "");
  EXPECT_EQ(error_of([&] { chat.render("text", nullptr, true); }),
            "chat template: messages are of type string, expected an array");
  EXPECT_EQ(error_of([&] { chat.render(Json::array(), 5, true); }),
            "chat template: tools are of type number, expected an array or null");
  EXPECT_EQ(error_of([&] { chat.render(Json::array(), nullptr, true, Json::array()); }),
            "chat template: variables are of type array, expected an object");
  Json deep = "x";
  for (int i = 0; i < 300; ++i) deep = Json::array({deep});
  EXPECT_EQ(error_of([&] { chat.render(deep, nullptr, true); }),
            "chat template: the input is nested deeper than 200 levels");
}

}  // namespace
}  // namespace lamina
