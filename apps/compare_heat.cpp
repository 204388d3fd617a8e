// SPDX-License-Identifier: Apache-2.0
#include "compare_heat.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "compare_values.h"
#include "html.h"

namespace lamina {
namespace {

constexpr double kWidth = 360, kLeft = 42, kTop = 6, kBottom = 32, kLeastCell = 7, kMostCell = 14;

struct Map {
  std::string title, about;
  std::string across, down;  // what columns and rows are
  Grid cells;
  std::vector<std::string> down_names{};  // of the rows; empty: their numbers
  double across_scale = 1;                // of a column's number
  double low = 0, high = 1;               // what is white, and what has the full colour
  std::vector<std::string> kinds{};       // cells are indices into these, not shades
};

std::string cell(const Map& map, double x, double y, double width, double height, double value) {
  const std::string at =
      fmt::format("x=\"{:.2f}\" y=\"{:.2f}\" width=\"{:.2f}\" height=\"{:.2f}\"", x, y, width, height);
  if (!map.kinds.empty()) return fmt::format("<rect class=\"p{}\" {}/>", static_cast<std::size_t>(value) % 6, at);
  const double share = map.high > map.low ? std::clamp((value - map.low) / (map.high - map.low), 0.0, 1.0) : 0;
  return fmt::format("<rect {} fill-opacity=\"{:.3f}\"/>", at, share);
}

std::string row_name(const Map& map, std::size_t row) {
  return map.down_names.empty() ? std::to_string(row) : escaped(map.down_names[row]);
}

std::string column_name(const Map& map, std::size_t column) {
  return fmt::format("{:.0f}", map.across_scale * static_cast<double>(column));
}

// The cells as text; the script shows it under the pointer too.
std::string values(const Map& map) {
  std::string out = fmt::format(
      "<details class=\"values\"><summary>Values</summary><div class=\"scroll\" tabindex=\"0\" role=\"region\" "
      "aria-label=\"Values: {}\"><table><thead><tr><th>{} / {}</th>",
      escaped(map.title), escaped(map.down), escaped(map.across));
  for (std::size_t i = 0; i < map.cells.front().size(); ++i)
    out += fmt::format("<th scope=\"col\">{}</th>", column_name(map, i));
  out += "</tr></thead><tbody>\n";
  for (std::size_t i = 0; i < map.cells.size(); ++i) {
    out += fmt::format("<tr><th scope=\"row\">{}</th>", row_name(map, i));
    for (const double value : map.cells[i])
      out += map.kinds.empty() ? fmt::format("<td>{:.3g}</td>", value)
                               : fmt::format("<td>{}</td>", escaped(map.kinds[static_cast<std::size_t>(value)]));
    out += "</tr>\n";
  }
  return out + "</tbody></table></div></details>";
}

// Every how many rows or columns, each of `size`, have their names shown so that these have room.
std::size_t step_of(double size, double room) {
  for (const std::size_t step : {1U, 2U, 5U, 10U, 20U, 50U})
    if (size * static_cast<double>(step) >= room) return step;
  return 100;
}

std::string axes(const Map& map, double width, double height) {
  std::string out;
  const std::size_t rows = map.cells.size(), columns = map.cells.front().size();
  const double bottom = kTop + height * static_cast<double>(rows);
  for (std::size_t i = 0; i < rows; i += step_of(height, 11))
    out += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"end\" class=\"tick\">{}</text>", kLeft - 4,
                       kTop + height * (static_cast<double>(i) + 0.5) + 4, row_name(map, i));
  for (std::size_t i = 0; i < columns; i += step_of(width, 26))
    out += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\" class=\"tick\">{}</text>",
                       kLeft + width * (static_cast<double>(i) + 0.5), bottom + 13, column_name(map, i));
  out +=
      fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\" class=\"axis\">{}</text>\n",
                  (kLeft + kWidth) / 2, bottom + 27, escaped(fmt::format("{} across, {} down", map.across, map.down)));
  return out;
}

std::string legend(const Map& map) {
  std::string out = "<div class=\"key\">";
  if (map.kinds.empty())
    return out + fmt::format("<span>{:.3g} <i class=\"ramp\"></i>{:.3g}</span></div>", map.low, map.high);
  for (std::size_t i = 0; i < map.kinds.size(); ++i)
    out += fmt::format("<span><i class=\"p{}\"></i>{}</span>", i % 6, escaped(map.kinds[i]));
  return out + "</div>";
}

std::string figure(const Map& map) {
  const std::size_t rows = map.cells.size(), columns = map.cells.front().size();
  const double width = (kWidth - kLeft) / static_cast<double>(columns);
  const double height = std::clamp(width, kLeastCell, kMostCell);
  std::string svg;
  for (std::size_t row = 0; row < rows; ++row) {
    for (std::size_t column = 0; column < columns; ++column)
      svg += cell(map, kLeft + width * static_cast<double>(column), kTop + height * static_cast<double>(row), width,
                  height, map.cells[row][column]);
    svg += '\n';
  }
  return fmt::format(
      "<figure><figcaption>{}<small>{}</small></figcaption><svg class=\"heat\" viewBox=\"0 0 {} {:.1f}\" role=\"img\" "
      "aria-label=\"{}: {} across, {} down\">\n{}{}</svg>{}{}</figure>\n",
      escaped(map.title), escaped(map.about), kWidth, kTop + height * static_cast<double>(rows) + kBottom,
      escaped(map.title), escaped(map.across), escaped(map.down), svg, axes(map, width, height), legend(map),
      values(map));
}

// From the smallest value beside the diagonal, where a layer meets itself, to the largest.
void stretch(Map& map) {
  map.low = map.high = map.cells.front().back();
  for (std::size_t i = 0; i < map.cells.size(); ++i)
    for (std::size_t j = 0; j < map.cells[i].size(); ++j)
      if (i != j) map.low = std::min(map.low, map.cells[i][j]), map.high = std::max(map.high, map.cells[i][j]);
}

// From zero to the largest value.
void fill(Map& map) {
  map.high = 0;
  for (const auto& row : map.cells) map.high = std::max(map.high, std::ranges::max(row));
}

Grid transposed(const Grid& grid) {
  Grid out(grid.front().size(), std::vector<double>(grid.size()));
  for (std::size_t i = 0; i < grid.size(); ++i)
    for (std::size_t j = 0; j < out.size(); ++j) out[j][i] = grid[i][j];
  return out;
}

// A measurement's values, or a figure's place that says why there are none.
template <class Fn>
std::string of(const Report& report, std::string_view name, Fn figures) {
  const auto found = report.model.find("model." + std::string(name));
  if (found == report.model.end()) return "";
  const Values values(*found->second);
  if (values.has("unavailable"))
    return fmt::format("<figure><figcaption>{}<small>{}</small></figcaption></figure>\n", escaped(name),
                       escaped(values.text("unavailable")));
  return figures(values);
}

std::string layer_maps(const Values& values) {
  Map distances{.title = "Distances between layers",
                .about = "Of K and V averaged over sentences, as KVSharer ranks pairs of layers.",
                .across = "layer",
                .down = "layer",
                .cells = values.grid("distances")};
  stretch(distances);
  Map cosines{.title = "Neighbours' likeness",
              .about = "Cosine of a layer's rows with those of the next one, which is what MiniCache merges by.",
              .across = "layer",
              .down = "keys and values",
              .cells = {values.numbers("key_cosines"), values.numbers("value_cosines")},
              .down_names = {"K", "V"}};
  values.require_that(cosines.cells[0].size() == cosines.cells[1].size(), "value_cosines",
                      "as many as \"key_cosines\"");
  if (cosines.cells.front().empty()) return figure(distances);  // of a model with one layer
  fill(cosines);
  return figure(distances) + figure(cosines);
}

std::string attention_maps(const Values& values) {
  const double queries = values.number("queries"), first = values.number("first_rows"),
               tokens = values.number("tokens");
  const auto by_head = [&](const char* name, std::string title, std::string about) {
    return figure({.title = std::move(title),
                   .about = std::move(about),
                   .across = "layer",
                   .down = "query head",
                   .cells = transposed(values.grid(name))});
  };
  Map positions{.title = "Attention by position",
                .about = fmt::format("The same queries, all heads of a layer; position in {:.0f} tokens.", tokens),
                .across = "position",
                .down = "layer",
                .cells = values.grid("by_position")};
  positions.across_scale = tokens / static_cast<double>(positions.cells.front().size());
  positions.high = 0.1;
  return by_head("first", fmt::format("Attention to the first {:.0f} tokens", first),
                 fmt::format("Share of what the last {:.0f} queries of a prompt of {:.0f} give.", queries, tokens)) +
         by_head("between", "Attention to what is between",
                 "What a token policy has to choose from: neither the first tokens nor the newest.") +
         by_head("local", fmt::format("Attention to the newest {:.0f} tokens", queries), "The rest.") +
         figure(positions);
}

std::string fastgen_map(const Values& values) {
  Map map{.title = "FastGen's policies",
          .about = fmt::format("The cheapest that recovers 95 % of a head's attention; {:.0f} % of rows kept.",
                               100 * values.number("kept_fraction")),
          .across = "layer",
          .down = "KV head",
          .cells = transposed(values.grid("chosen")),
          .kinds = values.texts("policies")};
  for (const auto& row : map.cells)
    for (const double kind : row)
      values.require_that(kind >= 0 && kind < static_cast<double>(map.kinds.size()), "chosen",
                          "indices of \"policies\"");
  return figure(map);
}

std::string minicache_maps(const Values& values) {
  std::vector<std::string> pairs;
  for (const auto& [lower, upper] : values.pairs("pairs")) pairs.push_back(fmt::format("{:.0f}+{:.0f}", lower, upper));
  const double tokens = values.number("tokens");
  const auto map = [&](const char* kind) {
    Map m{.title = fmt::format("MiniCache: {} kept apart", kind),
          .about = fmt::format("Share of the tokens around a position that a pair of layers does not merge; {:.1f} % "
                               "of all rows.",
                               100 * values.number("apart_fraction")),
          .across = "position",
          .down = "pair of layers",
          .cells = values.grid(kind),
          .down_names = pairs};
    values.require_that(m.cells.size() == pairs.size(), kind, "a row for each of \"pairs\"");
    m.across_scale = tokens / static_cast<double>(m.cells.front().size());
    fill(m);
    return figure(m);
  };
  return pairs.empty() ? "" : map("keys") + map("values");
}

}  // namespace

std::string model_maps(const Report& report) {
  return of(report, "layers", layer_maps) + of(report, "attention", attention_maps) +
         of(report, "fastgen", fastgen_map) + of(report, "minicache", minicache_maps);
}

}  // namespace lamina
