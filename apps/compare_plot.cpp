// SPDX-License-Identifier: Apache-2.0
#include "compare_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "html.h"

namespace lamina {
namespace {

// Of the drawing: as wide as the narrowest screen, so that letters keep their size there.
constexpr double kWidth = 360, kHeight = 270, kLeft = 50, kRight = 16, kTop = 12, kBottom = 40;
constexpr double kDot = 4.5, kLetter = 6.5, kLine = 11;

// From a value to a place. A logarithmic one has its zero at the end, where a value of zero is drawn.
class Axis {
 public:
  Axis(double low, double high, bool logarithmic, double from, double to)
      : logarithmic_(logarithmic), from_(from), to_(to) {
    low_ = along(low), high_ = along(high);
    const double room = high_ > low_ ? 0.08 * (high_ - low_) : std::max(0.5, std::abs(high_) * 0.05);
    low_ -= room, high_ += room;
  }

  double at(double value) const {
    if (logarithmic_ && value <= 0) return from_;
    return from_ + (along(value) - low_) / (high_ - low_) * (to_ - from_);
  }

  std::vector<double> ticks() const { return logarithmic_ ? log_ticks() : even_ticks(); }

 private:
  double along(double value) const { return logarithmic_ ? std::log10(value) : value; }

  std::vector<double> even_ticks() const {
    constexpr int kMost = 5;
    const double power = std::pow(10, std::floor(std::log10((high_ - low_) / kMost)));
    double step = 10 * power;
    for (const double nice : {1.0, 2.0, 5.0})
      if ((high_ - low_) / (nice * power) <= kMost) {
        step = nice * power;
        break;
      }
    std::vector<double> ticks;
    const double first = std::ceil(low_ / step);
    for (int i = 0; i <= kMost && (first + i) * step <= high_; ++i) ticks.push_back((first + i) * step);
    return ticks;
  }

  // Powers of ten; where there are few of them also 2 and 5 times those.
  std::vector<double> log_ticks() const {
    std::vector<double> ticks;
    const bool few = high_ - low_ < 2;
    for (double power = std::floor(low_); power <= high_; ++power)
      for (const double times : {1.0, 2.0, 5.0}) {
        const double tick = times * std::pow(10, power);
        if ((times == 1 || few) && std::log10(tick) >= low_ && std::log10(tick) <= high_) ticks.push_back(tick);
      }
    return ticks;
  }

  bool logarithmic_;
  double from_, to_, low_ = 0, high_ = 0;
};

struct Point {
  std::size_t number;  // of the spec, from 1
  const SpecReport* spec;
  double bytes, y;  // scaled as they are shown
  double at_x = 0, at_y = 0;
};

struct Box {
  double left, top, right, bottom;
  bool meets(const Box& other) const {
    return left < other.right && other.left < right && top < other.bottom && other.top < bottom;
  }
};

std::vector<Point> points_of(const Report& report, const Column& bytes, const Column& column) {
  std::vector<Point> points;
  for (std::size_t i = 0; i < report.specs.size(); ++i) {
    const SpecReport& spec = report.specs[i];
    const auto x = bytes.value(spec), y = column.value(spec);
    if (x && y && *x > 0 && std::isfinite(*y)) points.push_back({i + 1, &spec, bytes.scale * *x, column.scale * *y});
  }
  return points;
}

Axis y_axis(const std::vector<Point>& points, bool logarithmic) {
  double low = 1e300, high = -1e300;
  for (const Point& p : points)
    if (!logarithmic || p.y > 0) low = std::min(low, p.y), high = std::max(high, p.y);
  if (low > high) low = high = 1;
  return {low, high, logarithmic, kHeight - kBottom, kTop};
}

Axis x_axis(const std::vector<Point>& points) {
  const auto [low, high] = std::ranges::minmax(points, {}, &Point::bytes);
  return {low.bytes, high.bytes, true, kLeft, kWidth - kRight};
}

std::string text(double x, double y, const char* anchor, const char* css, const std::string& words) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\" class=\"{}\">{}</text>\n", x, y, anchor, css,
                     words);
}

std::string grid(const Axis& x, const Axis& y) {
  std::string out;
  const auto line = [&](double x1, double y1, double x2, double y2) {
    out +=
        fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" class=\"grid\"/>\n", x1, y1, x2, y2);
  };
  const double bottom = kHeight - kBottom;
  for (const double tick : x.ticks()) {
    line(x.at(tick), kTop, x.at(tick), bottom);
    out += text(x.at(tick), bottom + 15, "middle", "tick", fmt::format("{:g}", tick));
  }
  for (const double tick : y.ticks()) {
    line(kLeft, y.at(tick), kWidth - kRight, y.at(tick));
    out += text(kLeft - 6, y.at(tick) + 4, "end", "tick", fmt::format("{:.6g}", tick));
  }
  line(kLeft, bottom, kWidth - kRight, bottom);
  out += text((kLeft + kWidth - kRight) / 2, kHeight - 6, "middle", "axis", "MiB of KV cache");
  return out;
}

// Those that no other one beats in both, from the smallest on.
std::string front(std::vector<Point> points, Column::Better better) {
  const auto beats = [better](double a, double b) { return better == Column::Better::kLess ? a < b : a > b; };
  std::ranges::sort(
      points, [&](const Point& a, const Point& b) { return a.bytes != b.bytes ? a.bytes < b.bytes : beats(a.y, b.y); });
  std::string path;
  const Point* last = nullptr;
  for (const Point& p : points) {
    if (last != nullptr && !beats(p.y, last->y)) continue;
    path += fmt::format("{}{:.1f} {:.1f}", last == nullptr ? 'M' : 'L', p.at_x, p.at_y);
    last = &p;
  }
  return fmt::format("<path d=\"{}\" class=\"front\"/>\n", path);
}

// Numbers stand beside their dots where there is room, the first of eight places.
class Labels {
 public:
  explicit Labels(const std::vector<Point>& points) {
    for (const Point& p : points) taken_.push_back({p.at_x - kDot, p.at_y - kDot, p.at_x + kDot, p.at_y + kDot});
  }

  std::string of(const Point& p) {
    const std::string number = std::to_string(p.number);
    constexpr std::array<std::array<double, 2>, 8> kPlaces{
        {{1, 0}, {-1, 0}, {0, -1}, {0, 1}, {1, -1}, {-1, -1}, {1, 1}, {-1, 1}}};
    const double half = kLetter * static_cast<double>(number.size()) / 2;
    const auto place = [&](const std::array<double, 2>& side) {
      const double x = p.at_x + side[0] * (kDot + 2 + half), y = p.at_y + side[1] * (kDot + 1 + kLine / 2);
      return Box{x - half, y - kLine / 2, x + half, y + kLine / 2};
    };
    const auto found = std::ranges::find_if(kPlaces, [&](const auto& side) { return is_free(place(side)); });
    const Box best = place(found == kPlaces.end() ? kPlaces.front() : *found);
    taken_.push_back(best);
    return text((best.left + best.right) / 2, best.bottom - 2, "middle", "number", number);
  }

 private:
  bool is_free(const Box& box) const {
    const bool inside = box.left >= kLeft && box.right <= kWidth && box.top >= 0 && box.bottom <= kHeight - kBottom;
    return inside && std::ranges::none_of(taken_, [&](const Box& other) { return other.meets(box); });
  }
  std::vector<Box> taken_;
};

// A transparent circle around the dot is what a finger meets.
std::string mark(const Point& p, const Column& bytes, const Column& column, Labels& labels) {
  const std::string what =
      escaped(fmt::format("{}: {} MiB, {} {}", p.spec->spec, bytes.cell(*p.spec), column.title, column.cell(*p.spec)));
  return fmt::format(
      "<a class=\"mark{}\" href=\"#spec-{}\" data-spec=\"{}\" aria-label=\"{}\"><title>{}</title><circle "
      "class=\"target\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"12\"/><circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{}\"/>{}</a>\n",
      p.spec->spec == "full" ? " full" : "", p.number, p.number, what, what, p.at_x, p.at_y, p.at_x, p.at_y, kDot,
      labels.of(p));
}

}  // namespace

std::string pareto_plot(const Report& report, const Column& column) {
  const Column bytes = bytes_column();
  std::vector<Point> points = points_of(report, bytes, column);
  if (points.empty()) return "";
  const Axis x = x_axis(points), y = y_axis(points, column.logarithmic);
  for (Point& p : points) p.at_x = x.at(p.bytes), p.at_y = y.at(p.y);
  std::string svg = grid(x, y) + front(points, column.better);
  Labels labels(points);
  for (const Point& p : points) svg += mark(p, bytes, column, labels);
  return fmt::format(
      "<figure><figcaption>{}<small>{} is better</small></figcaption><svg viewBox=\"0 0 {} {}\" role=\"group\" "
      "aria-label=\"{} against bytes\">\n{}</svg></figure>\n",
      escaped(column.plot), column.better == Column::Better::kLess ? "Lower" : "Higher", kWidth, kHeight,
      escaped(column.plot), svg);
}

}  // namespace lamina
