// SPDX-License-Identifier: Apache-2.0
// The template language itself, and the bounds that a hostile template runs into.
#include "text/chat_template.h"
#include "text/golden_case.h"

namespace lamina {
namespace {

using Json = nlohmann::ordered_json;

std::chrono::system_clock::time_point golden_time() {
  std::tm t{};
  t.tm_year = 2025 - 1900;
  t.tm_mon = 2;
  t.tm_mday = 9;
  t.tm_hour = 7;
  t.tm_min = 5;
  t.tm_sec = 4;
  t.tm_isdst = -1;
  return std::chrono::system_clock::from_time_t(std::mktime(&t));
}

TEST(Jinja, DoesWhatPythonDoes) {
  const Json golden = Json::parse(read_golden("language.json"));
  ASSERT_GE(golden["cases"].size(), 250U);
  for (const Json& item : golden["cases"]) {
    SCOPED_TRACE(item["source"].get<std::string>());
    expect_golden(item, [&] {
      return ChatTemplate(item["source"].get<std::string>(), "<s>", "</s>")
          .render(Json::array(), nullptr, true, golden["variables"], golden_time());
    });
  }
}

// What a template does under tight limits: its output, or the error without the line.
std::string outcome(const std::string& source, jinja::Limits limits = {.steps = 1'000'000, .output_bytes = 1 << 20}) {
  try {
    return ChatTemplate(source, "", "").render(Json::array(), nullptr, true, {}, {}, limits);
  } catch (const Error& error) {
    const std::string what = error.what();
    return what.substr(what.find(": ") + 2);
  }
}

std::string repeat(const std::string& text, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += text;
  return out;
}

TEST(Jinja, ParsesOnlySoDeep) {
  EXPECT_EQ(outcome("{{ " + repeat("(", 50) + "1" + repeat(")", 50) + " }}"), "1");
  const std::string too_deep = "nested deeper than 150 levels";
  EXPECT_EQ(outcome("{{ " + repeat("(", 100'000) + "1" + repeat(")", 100'000) + " }}"), too_deep);
  EXPECT_EQ(outcome("{{ " + repeat("[", 100'000) + repeat("]", 100'000) + " }}"), too_deep);
  EXPECT_EQ(outcome("{{ " + repeat("-", 100'000) + "1 }}"), too_deep);
  EXPECT_EQ(outcome("{{ " + repeat("not ", 100'000) + "1 }}"), too_deep);
  EXPECT_EQ(outcome("{{ " + repeat("1 if 1 else ", 100'000) + "1 }}"), too_deep);
  EXPECT_EQ(outcome(repeat("{% if 1 %}", 100'000)), too_deep);
}

TEST(Jinja, EvaluatesOnlySoDeep) {
  const std::string too_deep = "an expression is nested deeper than 400 levels";
  EXPECT_EQ(outcome("{{ 1" + repeat(" + 1", 300) + " }}"), "301");
  EXPECT_EQ(outcome("{{ 1" + repeat(" + 1", 100'000) + " }}"), too_deep);
  EXPECT_EQ(outcome("{{ ''" + repeat("|trim", 100'000) + " }}"), too_deep);
  EXPECT_EQ(outcome("{{ a" + repeat(".b", 100'000) + " }}"), too_deep);
  EXPECT_EQ(outcome("{{ a" + repeat("()", 100'000) + " }}"), too_deep);
  EXPECT_EQ(outcome("{{ 1" + repeat(" ~ 1", 1000) + " }}").size(), 1001U);
  EXPECT_EQ(outcome("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"), "nested deeper than 1000 levels");
}

TEST(Jinja, TakesOnlySoManySteps) {
  const std::string too_long = "the template takes too many steps";
  EXPECT_EQ(outcome("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"), too_long);
  EXPECT_EQ(outcome("{% set ns = namespace(s='ab') %}{% for i in range(99999) %}{% if ns.s * 999 in 'x' %}{% endif %}"
                    "{% endfor %}"),
            too_long);
  EXPECT_EQ(outcome("{% set s = 'a' * 1000000 %}{{ ('a' * 500000 ~ 'b') in s }}"), too_long);
  EXPECT_EQ(outcome("{% set l = range(99999)|list %}{% for i in l %}{% if l == l + [1] %}{% endif %}{% endfor %}"),
            too_long);
}

TEST(Jinja, MakesOnlyValuesSoLarge) {
  EXPECT_EQ(outcome("{{ ('a' * 100000000)|length }}"), "a string of more than 67108864 bytes");
  EXPECT_EQ(outcome("{{ [1] * 100000000 }}"), "a value has more than 1000000 parts");
  EXPECT_EQ(outcome("{% set ns = namespace(l=[1]) %}{% for i in range(99) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}"),
            "a value has more than 1000000 parts");
  EXPECT_EQ(outcome("{% set ns = namespace(l=[]) %}{% for i in range(999) %}{% set ns.l = [ns.l] %}{% endfor %}"),
            "a value is nested deeper than 200 levels");
  EXPECT_EQ(outcome("{% set ns = namespace(l=[]) %}{% for i in range(999) %}{% set ns.l = [ns.l.index] %}{% endfor %}"),
            "a value is nested deeper than 200 levels");
  EXPECT_EQ(outcome("{% for i in range(99) %}{{ 'a' * 100000 }}{% endfor %}"),
            "the output is longer than 1048576 bytes");
  EXPECT_EQ(outcome("{{ 9223372036854775807 + 1 }}"), "an integer does not fit in 64 bits");
  EXPECT_EQ(outcome("{{ 10 ** 30 }}"), "an integer does not fit in 64 bits");
  EXPECT_EQ(outcome("{{ '%99999d' % 1 }}"), "a format is wider than 4096 characters");
}

TEST(Jinja, LeavesNoCycleBehind) {  // for the leak check of the sanitizers
  EXPECT_EQ(outcome("{% set ns = namespace() %}{% set ns.me = ns %}{% set ns.list = [ns] %}{{ ns.list|length }}"), "1");
  EXPECT_EQ(outcome("{% set ns = namespace() %}{% for i in [ns] %}{% set ns.l = loop %}{{ loop.changed(loop) }}"
                    "{% endfor %}"),
            "True");
  EXPECT_EQ(outcome("{% macro m() %}x{% endmacro %}{% set n = m %}{% set ns = namespace(m=m) %}{{ ns.m() }}"), "x");
  EXPECT_EQ(outcome("{% set ns = namespace() %}{% for i in [1] %}{% macro m() %}{% endmacro %}{% set ns.m = m %}"
                    "{% endfor %}{{ ns.m() }}"),
            "the macro \"m\" is called outside the block that defines it");
}

TEST(Jinja, RefusesWhatItDoesNotKnow) {
  EXPECT_EQ(outcome("{{ '{:>5}'.format('a') }}"), "unsupported format field \":>5\"");
  EXPECT_EQ(outcome("{% for i in [1] recursive %}{% endfor %}"), "unsupported: a recursive loop");
  EXPECT_EQ(outcome("{{ '\\N{DASH}' }}"), "unsupported escape \"\\N\" in a string");
  EXPECT_EQ(outcome("{{ 'a'.swapcase() }}"), "'str object' has no attribute 'swapcase'");
  EXPECT_EQ(outcome("{{ [].append(1) }}"), "access to attribute 'append' of 'list' object is unsafe.");
}

TEST(Jinja, PassesBytesThroughThatAreNotUtf8) {
  EXPECT_EQ(outcome("\xff{{ '\xc3' }}{{ '\xe2\x82'|length }}{{ 'a\xff'|upper }}"),
            "\xff\xc3"
            "2A\xff");
}

}  // namespace
}  // namespace lamina
