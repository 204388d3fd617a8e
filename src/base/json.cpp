// SPDX-License-Identifier: Apache-2.0
#include "base/json.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "base/error.h"
#include "base/mapped_file.h"

namespace lamina {
namespace {

using nlohmann::json;

constexpr int kMostDepth = 32;  // what works on a value later may recurse

// Sees every key of a text as it is parsed.
class Watch {
 public:
  explicit Watch(std::string_view file) : file_(file) {}

  bool operator()(int depth, json::parse_event_t event, const json& value) {
    using Event = json::parse_event_t;
    if (event == Event::object_start || event == Event::array_start)
      require(depth < kMostDepth, "{}: JSON nested deeper than {}", file_, kMostDepth);
    if (event == Event::object_start) keys_.emplace_back();
    if (event == Event::object_end) keys_.pop_back();
    if (event == Event::key) {
      const bool is_new = keys_.back().insert(value.get<std::string>()).second;
      if (!is_new) fail("{}: field {} comes twice", file_, shown(value));
    }
    return true;
  }

 private:
  std::string_view file_;
  std::vector<std::set<std::string>> keys_;  // [object being read]
};

}  // namespace

json parse_json(std::string_view text, std::string_view file) {
  Watch watch(file);
  const auto see = [&watch](int depth, json::parse_event_t event, const json& value) {
    return watch(depth, event, value);
  };
  try {
    return json::parse(text, see);
  } catch (const json::parse_error& error) {
    fail("{}: not JSON at byte {} of {}", file, std::min(error.byte, text.size()), text.size());
  } catch (const json::exception&) {
    fail("{}: holds a number that is out of range", file);
  }
}

json read_json(const std::string& path, std::size_t most_bytes) {
  return parse_json(read_text(path, most_bytes), path);
}

std::string shown(const json& value) {
  std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
  return text.size() <= 60 ? text : text.substr(0, 60) + "...";
}

}  // namespace lamina
