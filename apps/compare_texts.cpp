// SPDX-License-Identifier: Apache-2.0
#include "compare_texts.h"

#include <fmt/format.h>

#include <algorithm>

#include "compare_values.h"
#include "html.h"

namespace lamina {
namespace {

constexpr const char* kTexts = "generation.text";

bool continues(char byte) { return (static_cast<unsigned char>(byte) & 0xc0U) == 0x80U; }  // a UTF-8 character

// Where b parts from a, at the beginning of b's word; at its end if it is the beginning of a.
std::size_t parting(std::string_view a, std::string_view b) {
  auto at = static_cast<std::size_t>(std::ranges::mismatch(a, b).in2 - b.begin());
  if (at == b.size()) return at;
  while (at > 0 && (continues(b[at]) || (b[at - 1] != ' ' && b[at - 1] != '\n'))) --at;
  return at;
}

// What is the same, the word that differs, the rest.
std::string marked(std::string_view other, std::string_view text) {
  if (other == text) return fmt::format("<div class=\"said\"><span class=\"same\">{}</span></div>", escaped(text));
  const std::size_t at = parting(other, text);
  const std::size_t end = std::min(text.find_first_of(" \n", std::min(at + 1, text.size())), text.size());
  const std::string_view word = text.substr(at, end - at);
  return fmt::format("<div class=\"said\"><span class=\"same\">{}</span><mark>{}</mark>{}</div>",
                     escaped(text.substr(0, at)), word.empty() ? "∎" : escaped(word), escaped(text.substr(end)));
}

// What was generated under a spec; nothing if that was not measured yet.
std::vector<Values> samples(const SpecReport& spec) {
  const auto found = spec.results.find(kTexts);
  return found == spec.results.end() ? std::vector<Values>() : Values(*found->second).objects("samples");
}

std::string pair(const std::string& dense, const SpecReport& spec, std::size_t number, std::size_t sample) {
  const std::vector<Values> texts = samples(spec);
  if (sample >= texts.size()) return "";
  const Values& of = texts[sample];
  const auto head = [&](const std::string& note) {
    return fmt::format("<div class=\"pair\" data-spec=\"{}\"><h3>{} <small>{}</small></h3>", number, escaped(spec.spec),
                       note);
  };
  if (!of.has("first_difference")) return head("the same tokens") + "</div>\n";
  const std::string text = of.text("text");
  return head(fmt::format("token {:.0f} differs, ROUGE-L {:.3f}", of.number("first_difference") + 1,
                          of.number("rouge_l"))) +
         marked(text, dense) + marked(dense, text) + "</div>\n";
}

}  // namespace

std::string generated_texts(const Report& report) {
  const std::vector<Values> dense = report.specs.empty() ? std::vector<Values>() : samples(report.specs.front());
  if (dense.empty()) return "<p>None yet.</p>";
  std::string out;
  for (std::size_t sample = 0; sample < dense.size(); ++sample) {
    const std::string text = dense[sample].text("text");
    out += fmt::format(
        "<details{}><summary>Text {}: the dense cache's to the left or above</summary>\n<div class=\"given\">… "
        "{}</div>\n<div class=\"said\">{}</div>\n",
        sample == 0 ? " open" : "", sample + 1, escaped(dense[sample].text("prompt")), escaped(text));
    for (std::size_t i = 1; i < report.specs.size(); ++i) out += pair(text, report.specs[i], i + 1, sample);
    out += "</details>\n";
  }
  return out;
}

}  // namespace lamina
