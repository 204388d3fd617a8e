// SPDX-License-Identifier: Apache-2.0
#include "roofline.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace lamina {
namespace {

constexpr double kLeft = 46, kRight = 20, kTop = 12, kBottom = 40;  // around the plot
constexpr double kLetter = 6.4, kLine = 14;                         // of a label, about

struct Box {
  double left = 0, top = 0, right = 0, bottom = 0;

  double overlap(const Box& other) const {
    return std::max(0.0, std::min(right, other.right) - std::max(left, other.left)) *
           std::max(0.0, std::min(bottom, other.bottom) - std::max(top, other.top));
  }
  double area() const { return (right - left) * (bottom - top); }
};

struct Point {
  const ProfileRow* row;
  double x, y, radius;
};

// Logarithmic on both sides, from a decade on.
class Chart {
 public:
  Chart(const ProfileRows& rows, const MachineLimits& limits, double width, double height);
  std::string svg();

 private:
  double x_at(double intensity) const { return kLeft + (std::log10(intensity) - x_low_) * x_decade_; }
  double y_at(double speed) const { return plot_.bottom - (std::log10(speed) - y_low_) * y_decade_; }
  void grid();
  void roofs();
  void roof(double ops, const char* name, bool upper);
  void point(const Point& p);
  void label(const Point& p);
  double in_the_way(const Box& box) const;
  Box best_place(const Point& p, double width) const;
  void text(double x, double y, const char* anchor, const char* css, const std::string& words);

  const MachineLimits& limits_;
  double width_, height_;
  Box plot_;
  double x_low_ = 0, x_high_ = 0, y_low_ = 0, y_high_ = 0;  // powers of ten
  double x_decade_ = 0, y_decade_ = 0;
  std::vector<Point> points_;
  std::vector<Box> taken_;  // by labels and points
  std::string out_;
};

double intensity(const ProfileRow& row) { return row.work.ops() / row.work.bytes; }
double speed(const ProfileRow& row) { return row.work.ops() / row.seconds; }

Chart::Chart(const ProfileRows& rows, const MachineLimits& limits, double width, double height)
    : limits_(limits), width_(width), height_(height), plot_{kLeft, kTop, width - kRight, height - kBottom} {
  double least_x = 1, most_x = 100, least_y = 1e10;
  const auto is_shown = [](const ProfileRow& row) { return row.bound.seconds > 0 && row.work.ops() > 0; };
  for (const ProfileRow& row : rows.operations) {
    if (!is_shown(row)) continue;
    least_x = std::min(least_x, intensity(row));
    most_x = std::max(most_x, intensity(row));
    least_y = std::min(least_y, speed(row));
  }
  x_low_ = std::floor(std::log10(least_x / 1.5));
  x_high_ = std::ceil(std::log10(most_x * 1.5));
  y_low_ = std::floor(std::log10(least_y / 1.5));
  y_high_ = std::log10(2 * std::max(limits.f32_ops, limits.int8_ops));
  x_decade_ = (plot_.right - plot_.left) / (x_high_ - x_low_);
  y_decade_ = (plot_.bottom - plot_.top) / (y_high_ - y_low_);
  for (const ProfileRow& row : rows.operations)
    if (is_shown(row))
      points_.push_back({&row, x_at(intensity(row)), y_at(speed(row)),
                         std::max(2.5, 26 * std::sqrt(row.seconds / rows.total.seconds))});
  std::ranges::sort(points_, [](const Point& a, const Point& b) { return a.radius > b.radius; });
}

void Chart::text(double x, double y, const char* anchor, const char* css, const std::string& words) {
  out_ += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\" class=\"{}\">{}</text>\n", x, y, anchor, css,
                      words);
}

void Chart::grid() {
  const auto line = [&](double x1, double y1, double x2, double y2) {
    out_ +=
        fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" class=\"grid\"/>\n", x1, y1, x2, y2);
  };
  for (double power = x_low_; power <= x_high_; ++power) {
    const double x = x_at(std::pow(10, power));
    line(x, plot_.top, x, plot_.bottom);
    text(x, plot_.bottom + 15, "middle", "tick", fmt::format("{:g}", std::pow(10, power)));
  }
  for (double power = y_low_; power <= y_high_; ++power) {
    const double y = y_at(std::pow(10, power));
    line(plot_.left, y, plot_.right, y);
    text(plot_.left - 6, y + 4, "end", "tick", fmt::format("{:g}", std::pow(10, power - 9)));
  }
  text((plot_.left + plot_.right) / 2, height_ - 6, "middle", "axis", "operations per byte");
  out_ += fmt::format(
      "<text transform=\"translate(11 {:.1f}) rotate(-90)\" text-anchor=\"middle\" class=\"axis\">GOP/s</text>\n",
      (plot_.top + plot_.bottom) / 2);
}

// From where memory allows as much to the right end. The upper roof has its name above it, the lower one below, at the
// end that has fewer points.
void Chart::roof(double ops, const char* name, bool upper) {
  const double from = std::max(x_at(ops / limits_.read_bytes), plot_.left), y = y_at(ops);
  if (from >= plot_.right) return;
  out_ += fmt::format("<path d=\"M{:.1f} {:.1f}H{:.1f}\" class=\"roof\"/>\n", from, y, plot_.right);
  const std::string words = fmt::format("{} {:.0f} GOP/s", name, ops / 1e9);
  const double width = kLetter * static_cast<double>(words.size()), baseline = upper ? y - 5 : y + kLine;
  const auto place = [&](double left) { return Box{left, baseline - kLine, left + width, baseline + 4}; };
  const Box begin = place(from + 4), end = place(plot_.right - 4 - width);
  const bool at_end = in_the_way(end) <= in_the_way(begin);
  text(at_end ? end.right : begin.left, baseline, at_end ? "end" : "start", "limit", words);
  taken_.push_back(at_end ? end : begin);
}

void Chart::roofs() {
  const double bandwidth = limits_.read_bytes, most = std::max(limits_.f32_ops, limits_.int8_ops);
  double low = std::pow(10, x_low_);
  low = std::max(low, std::pow(10, y_low_) / bandwidth);
  const double high = std::min(most / bandwidth, std::pow(10, x_high_));
  const double x1 = x_at(low), y1 = y_at(low * bandwidth), x2 = x_at(high), y2 = y_at(high * bandwidth);
  out_ += fmt::format("<path d=\"M{:.1f} {:.1f}L{:.1f} {:.1f}\" class=\"roof\"/>\n", x1, y1, x2, y2);
  const double x = x1 + 0.3 * (x2 - x1), y = y1 + 0.3 * (y2 - y1);
  out_ += fmt::format(
      "<text transform=\"translate({:.1f} {:.1f}) rotate({:.1f})\" text-anchor=\"middle\" class=\"limit\">memory "
      "{:.0f} "
      "GB/s</text>\n",
      x - 4, y - 6, std::atan2(y2 - y1, x2 - x1) * 180 / std::acos(-1.0), bandwidth / 1e9);
  for (double t = 0; t <= 1; t += 0.02) {  // labels keep off the line
    const double at_x = x1 + t * (x2 - x1), at_y = y1 + t * (y2 - y1);
    taken_.push_back({at_x - 2, at_y - 2, at_x + 2, at_y + 2});
  }
  taken_.push_back({x - 45, y - 30, x + 35, y + 15});
  const bool codes_upper = limits_.int8_ops >= limits_.f32_ops;
  roof(limits_.f32_ops, "float32", !codes_upper);
  roof(limits_.int8_ops, "int8", codes_upper);
}

void Chart::point(const Point& p) {
  out_ += fmt::format(
      "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{:.1f}\" class=\"point {}\"><title>{}: {:.1f} operations a byte, {:.1f} "
      "GOP/s, {:.0f} % of limit</title></circle>\n",
      p.x, p.y, p.radius, css_class(p.row->kind), p.row->name, intensity(*p.row), speed(*p.row) / 1e9,
      100 * p.row->of_limit());
}

double Chart::in_the_way(const Box& box) const {
  double area = 0;
  for (const Box& other : taken_) area += box.overlap(other);
  return area;
}

// Around the point, as near as nothing is in the way.
Box Chart::best_place(const Point& p, double width) const {
  Box best;
  double least = 1e9;
  for (const double distance : {4.0, 12.0, 24.0, 40.0, 60.0, 84.0})
    for (int turn = 0; turn < 16; ++turn) {
      const double angle = turn * std::acos(-1.0) / 8, dx = std::cos(angle), dy = std::sin(angle);
      const double x = p.x + dx * (p.radius + distance + width / 2), y = p.y + dy * (p.radius + distance + kLine / 2);
      const Box box{x - width / 2, y - kLine / 2, x + width / 2, y + kLine / 2};
      const Box inside{std::max(box.left, plot_.left), std::max(box.top, plot_.top), std::min(box.right, plot_.right),
                       std::min(box.bottom, plot_.bottom)};
      double cost = distance + 8 * (box.area() - box.overlap(inside));
      cost += 8 * in_the_way(box);
      if (cost < least) {
        least = cost;
        best = box;
      }
    }
  return best;
}

void Chart::label(const Point& p) {
  const Box box = best_place(p, kLetter * static_cast<double>(p.row->name.size()));
  taken_.push_back(box);
  const double x = (box.left + box.right) / 2, y = (box.top + box.bottom) / 2;
  const double to_x = std::clamp(p.x, box.left, box.right), to_y = std::clamp(p.y, box.top, box.bottom);
  const double distance = std::hypot(to_x - p.x, to_y - p.y);
  if (distance > p.radius + 10)
    out_ += fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" class=\"leader\"/>\n",
                        p.x + (to_x - p.x) * p.radius / distance, p.y + (to_y - p.y) * p.radius / distance, to_x, to_y);
  text(x, y + 4, "middle", "label", p.row->name);
}

std::string Chart::svg() {
  out_ = fmt::format(
      "<svg viewBox=\"0 0 {0:.0f} {1:.0f}\" style=\"max-width:{0:.0f}px\" role=\"img\" aria-label=\"roofline\">\n",
      width_, height_);
  for (const Point& p : points_) taken_.push_back({p.x - p.radius, p.y - p.radius, p.x + p.radius, p.y + p.radius});
  grid();
  roofs();
  for (const Point& p : points_) point(p);
  for (const Point& p : points_) label(p);
  return out_ + "</svg>\n";
}

}  // namespace

const char* css_class(OpKind kind) {
  switch (kind) {
    case OpKind::kProduct:
      return "product";
    case OpKind::kAttention:
      return "attention";
    case OpKind::kRows:
      return "rows";
    case OpKind::kCache:
      return "cache";
    case OpKind::kOther:
      break;
  }
  return "other";
}

std::string roofline_svg(const ProfileRows& rows, const MachineLimits& limits, double width, double height) {
  return Chart(rows, limits, width, height).svg();
}

}  // namespace lamina
