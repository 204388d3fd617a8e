// SPDX-License-Identifier: Apache-2.0
#include "compare_bytes.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "html.h"

namespace lamina {
namespace {

constexpr const char* kCache = "cache";
constexpr std::array<const char*, 6> kHeld = {"rows", "scales", "gains", "positions", "mass", "slack"};
constexpr std::array<std::pair<const char*, const char*>, 3> kSaved{{{"saved_by_bits", "saved by bits"},
                                                                     {"saved_by_tokens", "saved by tokens"},
                                                                     {"saved_by_layers", "saved by layers"}}};

struct Part {
  std::string css, words;
  double bytes = 0;  // as the words have it
  double drawn = 0;  // the room that it takes
};

double bytes_of(const SpecReport& spec, const char* name) { return spec.value(kCache, name).value_or(0); }

// What overhead takes, or an axis that costs bytes, is gone from what was saved, from the left: so a bar ends where the
// dense cache's does.
std::vector<Part> axis_parts(const SpecReport& spec) {
  const double overhead = bytes_of(spec, "overhead");
  double lost = std::max(0.0, overhead);
  for (const auto& [name, words] : kSaved) lost += std::max(0.0, -bytes_of(spec, name));
  const double held = bytes_of(spec, "kv_bytes");
  std::vector<Part> parts = {{"held", "held", held, held - std::max(0.0, overhead)},
                             {"overhead", "held as overhead", overhead, std::abs(overhead)}};
  for (const auto& [name, words] : kSaved) {
    const double saved = bytes_of(spec, name), drawn = std::max(0.0, std::max(0.0, saved) - lost);
    lost -= std::max(0.0, saved) - drawn;
    parts.push_back({name, words, saved, drawn});
  }
  return parts;
}

std::vector<Part> held_parts(const SpecReport& spec) {
  std::vector<Part> parts;
  parts.reserve(kHeld.size());
  for (const char* name : kHeld) parts.push_back({name, name, bytes_of(spec, name), bytes_of(spec, name)});
  return parts;
}

// A bar for each spec; the longest is as wide as there is room.
template <class Fn>
std::string bars(const Report& report, const char* css, Fn parts_of) {
  double most = 1;
  std::string key = "<div class=\"key\">";
  for (const SpecReport& spec : report.specs) {
    double all = 0;
    for (const Part& part : parts_of(spec)) {
      all += std::max(0.0, part.drawn);
      if (&spec == &report.specs.front())
        key += fmt::format("<span><i class=\"{}\"></i>{}</span>", part.css, part.words);
    }
    most = std::max(most, all);
  }
  std::string out = fmt::format("{}</div>\n<div class=\"stack {}\">\n", key, css);
  const Column column = bytes_column();
  for (std::size_t i = 0; i < report.specs.size(); ++i) {
    const SpecReport& spec = report.specs[i];
    out += fmt::format("<div data-spec=\"{}\"><span class=\"name\">{}</span><span class=\"bar\">", i + 1,
                       escaped(spec.spec));
    double left = 1;
    for (const Part& part : parts_of(spec)) {
      const double share = part.drawn / most;
      if (!(share > 0)) continue;
      out += fmt::format("<i class=\"{}\" style=\"flex:{:.5f}\" title=\"{}: {:.0f} bytes\"></i>", part.css, share,
                         part.words, part.bytes);
      left -= share;
    }
    out += fmt::format("<span style=\"flex:{:.5f}\"></span></span><span class=\"of\">{} MiB</span></div>\n",
                       std::max(0.0, left), column.cell(spec));
  }
  return out + "</div>";
}

}  // namespace

std::string axis_bars(const Report& report) { return bars(report, "axes", axis_parts); }

std::string held_bars(const Report& report) { return bars(report, "held-parts", held_parts); }

std::vector<Column> byte_columns() {
  std::vector<Column> all;
  const auto add = [&](std::string title, const char* name) {
    all.push_back({.title = std::move(title),
                   .better = Column::Better::kNeither,
                   .value = [name](const SpecReport& spec) { return spec.value(kCache, name); }});
  };
  add("held", "kv_bytes");
  for (const auto& [name, words] : kSaved) add(words, name);
  add("overhead", "overhead");
  for (const char* name : kHeld) add(name, name);
  return all;
}

}  // namespace lamina
