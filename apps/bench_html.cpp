// SPDX-License-Identifier: Apache-2.0
#include "bench_html.h"

#include <fmt/format.h>

#include "kernels/kernels.h"
#include "machine_info.h"
#include "roofline.h"

namespace lamina {
namespace {

constexpr const char* kStyle = R"(
:root { color-scheme: light dark; --paper: #fcfcfd; --card: #fff; --ink: #1b2330; --soft: #5c6675; --line: #dfe3e9;
  --product: #2f6fd0; --attention: #d9682b; --rows: #2e9c7a; --cache: #8a5bc7; --other: #98a1ae; }
@media (prefers-color-scheme: dark) { :root { --paper: #12161d; --card: #191f28; --ink: #e6eaf0; --soft: #9aa5b4;
  --line: #2c3542; --product: #6ea3f2; --attention: #f0935c; --rows: #57c3a2; --cache: #b48df0; --other: #76808e; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1120px; padding: 28px 16px 48px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 24px; margin: 0 0 4px; letter-spacing: -.01em; }
h1, h2, p { overflow-wrap: anywhere; } h2 { font-size: 18px; margin: 0; }
p { margin: 4px 0; color: var(--soft); }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 20px; margin-top: 24px; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(120px, 1fr)); gap: 12px; margin: 14px 0; }
.figures div { border-left: 3px solid var(--line); padding-left: 10px; }
.figures b { display: block; font-size: 19px; font-weight: 600; font-variant-numeric: tabular-nums; }
.figures span { color: var(--soft); font-size: 13px; }
svg { display: block; width: 100%; height: auto; margin: 8px auto; } .wide { display: block; } .narrow { display: none; }
svg text { font-size: 11.5px; fill: var(--ink); } svg .tick, svg .axis { fill: var(--soft); }
svg .limit { fill: var(--soft); font-style: italic; } svg .grid { stroke: var(--line); }
svg .label { paint-order: stroke; stroke: var(--card); stroke-width: 3px; stroke-linejoin: round; }
svg .leader { stroke: var(--soft); stroke-width: .8; } svg .roof { fill: none; stroke: var(--ink); stroke-width: 1.6; }
svg .point { fill-opacity: .78; stroke: var(--card); }
.product { --c: var(--product); } .attention { --c: var(--attention); } .rows { --c: var(--rows); }
.cache { --c: var(--cache); } .other { --c: var(--other); }
svg .point { fill: var(--c); } .bar i, .key i, td i { background: var(--c); }
.bar { display: flex; gap: 2px; height: 30px; margin: 14px 0 6px; border-radius: 5px; overflow: hidden; }
.bar i { display: block; min-width: 1px; color: #fff; font-size: 12px; font-style: normal; font-weight: 600;
  line-height: 30px; text-align: center;
  overflow: hidden; white-space: nowrap; }
@media (prefers-color-scheme: dark) { .bar i { color: #10141a; } }
.key { display: flex; flex-wrap: wrap; gap: 4px 16px; color: var(--soft); font-size: 13px; margin-bottom: 14px; }
.key i, td i { display: inline-block; width: 10px; height: 10px; border-radius: 3px; margin-right: 6px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 8px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 500; } th:first-child, td:first-child { text-align: left; }
th:nth-child(2), td:nth-child(2) { text-align: left; color: var(--soft); }
tr:last-child td { border-bottom: 0; font-weight: 600; }
@media (max-width: 640px) { section { padding: 14px 12px; } .wide { display: none; } .narrow { display: block; }
  .bar .tight { font-size: 0; }
  td:first-child, th:first-child { position: sticky; left: 0; background: var(--card); } }
)";

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) switch (c) {
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '&':
        out += "&amp;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  return out;
}

std::string figures(const ProfiledTest& test) {
  const MachineLimits& m = test.limits;
  std::string out = "<div class=\"figures\">";
  const auto add = [&](const std::string& value, const char* what) {
    out += fmt::format("<div><b>{}</b><span>{}</span></div>", value, what);
  };
  add(fmt::format("{:.1f}", test.tokens_per_second()), "tokens/s");
  add(fmt::format("{:.1f}", test.seconds() * 1e3), "ms a repetition");
  add(fmt::format("{:.1f}", m.read_bytes / 1e9), "GB/s read, limit");
  add(fmt::format("{:.0f}", m.f32_ops / 1e9), "float32 GOP/s, limit");
  add(m.bf16_ops > 0 ? fmt::format("{:.0f}", m.bf16_ops / 1e9) : "none", "bf16 GOP/s, limit");
  add(fmt::format("{:.0f}", m.int8_ops / 1e9), "int8 GOP/s, limit");
  return out + "</div>\n";
}

// A segment has its name where there is room for it, as far as can be told from its share.
std::string time_bar(const ProfileRows& rows) {
  std::string out = "<div class=\"bar\">";
  for (const ProfileRow& row : rows.operations) {
    const double share = row.seconds / rows.total.seconds;
    const double letters = static_cast<double>(row.name.size());
    const bool fits = share * 110 > letters, fits_narrow = share * 34 > letters;
    out += fmt::format("<i class=\"{}{}\" style=\"flex:{:.4f}\" title=\"{}: {:.1f} %\">{}</i>", css_class(row.kind),
                       fits_narrow ? "" : " tight", share, row.name, 100 * share, fits ? row.name : "");
  }
  return out +
         "</div>\n<div class=\"key\"><span><i class=\"product\"></i>matrix products</span><span><i "
         "class=\"attention\"></i>attention</span><span><i class=\"cache\"></i>cache</span><span><i "
         "class=\"rows\"></i>operations on rows</span><span><i class=\"other\"></i>other</span></div>\n";
}

std::string table(const ProfileRows& rows) {
  std::string out = fmt::format("<div class=\"scroll\"><table><thead><tr><th>{}</th></tr></thead><tbody>\n",
                                fmt::join(profile_titles(), "</th><th>"));
  const auto add = [&](const ProfileRow& row, const std::string& mark) {
    std::vector<std::string> cells = profile_cells(row, rows.total.seconds);
    cells.front().insert(0, mark);
    out += fmt::format("<tr><td>{}</td></tr>\n", fmt::join(cells, "</td><td>"));
  };
  for (const ProfileRow& row : rows.operations) add(row, fmt::format("<i class=\"{}\"></i>", css_class(row.kind)));
  add(rows.total, "");
  return out + "</tbody></table></div>\n";
}

std::string section(const ProfiledTest& test) {
  const ProfileRows rows = profile_rows(test);
  return fmt::format("<section>\n<h2>{}</h2>\n", escaped(test_title(test))) + figures(test) + time_bar(rows) +
         "<div class=\"wide\">" + roofline_svg(rows, test.limits, 980, 460) + "</div>\n<div class=\"narrow\">" +
         roofline_svg(rows, test.limits, 350, 400) + "</div>\n" + table(rows) + "</section>\n";
}

}  // namespace

std::string profile_page(const BenchModel& model, const std::vector<ProfiledTest>& tests) {
  std::string page = fmt::format(
      "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" "
      "content=\"width=device-width, initial-scale=1\">\n<title>Lamina profile: "
      "{0}</title>\n<style>{1}</style>\n</head>\n"
      "<body>\n<h1>Lamina profile: {0}</h1>\n<p>{2}</p>\n<p>{3}, {4}; lamina {5}; {6}</p>\n",
      escaped(model.type), kStyle, escaped(model.filename), escaped(cpu_name()), name(chosen_isa()), build_commit(),
      tests.empty() ? "" : tests.front().result.time);
  for (const ProfiledTest& test : tests) page += section(test);
  return page + fmt::format(
                    "<p style=\"margin-top:20px\">{} In the chart, operations with a limit; a circle's area is its "
                    "share of the time.</p>\n</body>\n</html>\n",
                    escaped(kProfileNote));
}

}  // namespace lamina
