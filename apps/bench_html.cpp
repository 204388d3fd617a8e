// SPDX-License-Identifier: Apache-2.0
#include "bench_html.h"

#include <fmt/format.h>

#include "html.h"
#include "kernels/kernels.h"
#include "machine_info.h"
#include "report_files.h"
#include "roofline.h"

namespace lamina {
namespace {

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
  std::string body =
      fmt::format("<p>{}</p>\n<p>{}, {}; lamina {}; {}</p>\n", escaped(model.filename), escaped(cpu_name()),
                  name(chosen_isa()), build_commit(), tests.empty() ? "" : tests.front().result.time);
  for (const ProfiledTest& test : tests) body += section(test);
  body += fmt::format(
      "<p style=\"margin-top:20px\">{} In the chart, operations with a limit; a circle's area is its share of the "
      "time.</p>\n",
      escaped(kProfileNote));
  return html_page(fmt::format("Lamina profile: {}", model.type), profile_css(), body);
}

}  // namespace lamina
