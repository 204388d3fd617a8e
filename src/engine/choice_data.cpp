// SPDX-License-Identifier: Apache-2.0
#include "engine/choice_data.h"

#include <algorithm>
#include <filesystem>
#include <random>
#include <sstream>
#include <utility>

#include "base/error.h"
#include "base/mapped_file.h"

namespace lamina {
namespace {

constexpr std::size_t kMostBytes = std::size_t{1} << 30;

std::vector<std::string> lines_of(const std::string& path) {
  std::istringstream text(read_text(path, kMostBytes));
  std::vector<std::string> lines;
  for (std::string line; std::getline(text, line); lines.push_back(std::move(line)))
    if (line.ends_with('\r')) line.pop_back();
  return lines;
}

// The labels of a file, read when a line first wants one.
class Labels {
 public:
  explicit Labels(const std::string& data) : data_(data) {
    path_ = std::filesystem::path(data).replace_extension().string() + "-labels.lst";
  }

  const std::string& operator[](std::size_t line) {
    if (labels_.empty()) {
      require(std::filesystem::exists(path_), "{}: line {}: \"label\" is missing, and there is no {}", data_, line + 1,
              path_);
      labels_ = lines_of(path_);
    }
    require(line < labels_.size(), "{}: {} lines, expected a label of line {} of {}", path_, labels_.size(), line + 1,
            data_);
    const std::string& label = labels_[line];
    require(label == "0" || label == "1", "{}: line {}: {}, expected 0 or 1", path_, line + 1, shown(label));
    return label;
  }

 private:
  std::string data_, path_;
  std::vector<std::string> labels_;
};

std::vector<ChoiceItem> items_of(const ChoiceTask& task, const std::string& path) {
  Labels labels(path);
  std::vector<ChoiceItem> items;
  const std::vector<std::string> lines = lines_of(path);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (lines[i].empty()) continue;
    const std::string where = fmt::format("{}: line {}", path, i + 1);
    nlohmann::json json = parse_json(lines[i], where);
    require(json.is_object(), "{}: {}, expected an object", where, shown(json));
    if (task.name == "piqa" && !json.contains("label")) json["label"] = labels[i];
    items.push_back(task.item({where, json}));
    items.back().line = static_cast<int>(i + 1);
  }
  require(!items.empty(), "{}: no items", path);
  return items;
}

// Moves `count` of the items to the front: the first, or those that the seed draws, in the order drawn.
void draw(std::vector<ChoiceItem>& items, std::size_t count, std::optional<std::uint64_t> seed) {
  if (!seed) return;
  std::mt19937_64 random(*seed);
  for (std::size_t i = 0; i < count; ++i) std::swap(items[i], items[i + random() % (items.size() - i)]);
}

std::string example(const ChoiceItem& item) {
  const ChoiceItem::Choice& right = item.choices[item.answer];
  return right.context + right.continuation + "\n\n";
}

// The examples' text, and those items that are left for questions if both come from one file.
std::string take_shots(const ChoiceData& data, const ChoiceTask& task, std::vector<ChoiceItem>& items) {
  const bool apart = !data.shots_file.empty() && data.shots_file != data.file;
  std::vector<ChoiceItem> pool = apart ? items_of(task, data.shots_file) : std::move(items);
  const auto shots = static_cast<std::size_t>(data.shots);
  require(pool.size() >= shots + (apart ? 0 : 1), "{}: {} items, expected {} for {} shots{}",
          apart ? data.shots_file : data.file, pool.size(), shots + (apart ? 0 : 1), shots,
          apart ? "" : " and a question");
  draw(pool, shots, data.seed);
  std::string text;
  for (std::size_t i = 0; i < shots; ++i) text += example(pool[i]);
  if (!apart) {
    pool.erase(pool.begin(), pool.begin() + data.shots);
    std::ranges::sort(pool, {}, &ChoiceItem::line);
    items = std::move(pool);
  }
  return text;
}

}  // namespace

std::vector<ChoiceItem> read_choices(const ChoiceData& data) {
  const ChoiceTask& task = choice_task(data.task);
  std::vector<ChoiceItem> items = items_of(task, data.file);
  const std::string shots = data.shots > 0 ? take_shots(data, task, items) : "";
  if (data.limit > 0 && static_cast<std::size_t>(data.limit) < items.size())
    items.resize(static_cast<std::size_t>(data.limit));
  for (ChoiceItem& item : items)
    for (ChoiceItem::Choice& choice : item.choices) choice.context.insert(0, shots);
  return items;
}

}  // namespace lamina
