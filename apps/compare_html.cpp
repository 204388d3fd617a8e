// SPDX-License-Identifier: Apache-2.0
#include "compare_html.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

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

// A bar for each spec, the dense cache's as wide as there is room.
std::string bytes(const Report& report) {
  constexpr std::array<const char*, 6> kParts = {"rows", "scales", "gains", "positions", "mass", "slack"};
  double most = 1;
  for (const SpecReport& spec : report.specs) most = std::max(most, spec.value("cache", "kv_bytes").value_or(0));
  std::string out = "<div class=\"key\">";
  for (const char* part : kParts) out += fmt::format("<span><i class=\"{0}\"></i>{0}</span>", part);
  out += "</div>\n<div class=\"stack\">\n";
  const Column column = bytes_column();
  for (std::size_t i = 0; i < report.specs.size(); ++i) {
    const SpecReport& spec = report.specs[i];
    out += fmt::format("<div data-spec=\"{}\"><span class=\"name\">{}</span><span class=\"bar\">", i + 1,
                       escaped(spec.spec));
    double left = 1;
    for (const char* part : kParts) {
      const double of = spec.value("cache", part).value_or(0), share = of / most;
      if (of <= 0) continue;
      out += fmt::format("<i class=\"{0}\" style=\"flex:{1:.5f}\" title=\"{0}: {2:.0f} bytes\"></i>", part, share, of);
      left -= share;
    }
    out += fmt::format("<span style=\"flex:{:.5f}\"></span></span><span class=\"of\">{} MiB</span></div>\n",
                       std::max(0.0, left), column.cell(spec));
  }
  return out + "</div>";
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
                                                   {"bytes", bytes(report)},
                                                   {"texts", generated_texts(report)},
                                                   {"maps", model_maps(report)},
                                                   {"script", fmt::format("\n{}", compare_js())}});
  return html_page(fmt::format("Lamina compares: {}", origin.model), compare_css(), body);
}

}  // namespace lamina
