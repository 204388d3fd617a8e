// SPDX-License-Identifier: Apache-2.0
#include "compare_html.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "compare_bytes.h"
#include "compare_heat.h"
#include "compare_plot.h"
#include "compare_texts.h"
#include "html.h"
#include "report_files.h"

namespace lamina {
namespace {

// The best of the specs but the dense cache.
std::optional<double> best(const Report& report, const Column& column) {
  std::optional<double> best;
  if (column.better == Column::Better::kNeither) return best;
  for (const SpecReport& spec : report.specs) {
    const std::optional<double> x = spec.spec == "full" ? std::nullopt : column.value(spec);
    if (x && (!best || (column.better == Column::Better::kLess ? *x < *best : *x > *best))) best = x;
  }
  return best;
}

std::string cell(const Column& column, const SpecReport& spec, std::optional<double> best) {
  const std::optional<double> x = column.value(spec);
  if (!x) return "<td data-value=\"\">-</td>";
  std::string range;
  if (column.range)
    if (const auto likely = column.range(spec))
      range = fmt::format("<small>{}–{}</small>", column.shown(likely->first), column.shown(likely->second));
  return fmt::format("<td data-value=\"{}\"{}>{}{}</td>", *x, x == best ? " class=\"best\"" : "", column.shown(*x),
                     range);
}

// A row for each spec, with the id NAME-NUMBER; the table's is NAMEs. Titles sort.
std::string table(const Report& report, const std::vector<Column>& columns, std::string_view name) {
  const auto head = [](std::string_view title) {
    return fmt::format("<th scope=\"col\"><button type=\"button\">{}</button></th>", escaped(title));
  };
  std::vector<std::optional<double>> bests;
  std::string out = fmt::format("<table id=\"{}s\"><thead><tr>{}{}", name, head("#"), head("KV spec"));
  for (const Column& column : columns) {
    out += head(column.title);
    bests.push_back(best(report, column));
  }
  out += "</tr></thead><tbody>\n";
  for (std::size_t i = 0; i < report.specs.size(); ++i) {
    const SpecReport& spec = report.specs[i];
    out += fmt::format(
        "<tr id=\"{0}-{1}\" data-spec=\"{1}\"><td data-value=\"{1}\">{1}</td><td data-value=\"{2}\">{2}</td>", name,
        i + 1, escaped(spec.spec));
    for (std::size_t c = 0; c < columns.size(); ++c) out += cell(columns[c], spec, bests[c]);
    out += "</tr>\n";
  }
  return out + "</tbody></table>";
}

std::string about(const Report& report) {
  std::string text =
      "Beside the dense cache, full, on the same data. The best of the others is bold. Small figures are 95 % ranges, "
      "tokens taken as independent: neighbours are not quite, so the truth is somewhat wider.";
  for (const Column& column : columns(report))
    if (!column.about.empty()) text += " " + column.about;
  return text;
}

std::string plots(const Report& report) {
  std::string out;
  for (const Column& column : columns(report))
    if (!column.plot.empty()) out += pareto_plot(report, column);
  return out;
}

}  // namespace

std::string comparison_page(const Report& report) {
  const ResultsOrigin& origin = report.origin;
  const std::string body = filled(compare_html(), {{"suite", escaped(origin.suite)},
                                                   {"data", escaped(origin.data)},
                                                   {"machine", escaped(origin.machine)},
                                                   {"version", escaped(origin.version)},
                                                   {"tokens", fmt::format("{:.0f}", report.tokens().value_or(0))},
                                                   {"about", escaped(about(report))},
                                                   {"table", table(report, columns(report), "spec")},
                                                   {"tasks", table(report, task_columns(report), "task")},
                                                   {"plots", plots(report)},
                                                   {"axes", axis_bars(report)},
                                                   {"held", held_bars(report)},
                                                   {"bytes", table(report, byte_columns(), "byte")},
                                                   {"texts", generated_texts(report)},
                                                   {"maps", model_maps(report)},
                                                   {"script", fmt::format("\n{}", compare_js())}});
  return html_page(fmt::format("Lamina compares: {}", origin.model), compare_css(), body);
}

}  // namespace lamina
