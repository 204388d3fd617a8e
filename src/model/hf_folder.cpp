// SPDX-License-Identifier: Apache-2.0
#include "model/hf_folder.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <span>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "model/safetensors.h"

namespace lamina {
namespace {

using nlohmann::json;

constexpr std::size_t kMostJsonBytes = std::size_t{64} << 20;  // the index of a model with 400,000 tensors
constexpr std::string_view kWeights = "model.safetensors";
constexpr std::string_view kIndex = "model.safetensors.index.json";

// ---- names: Hugging Face's and GGUF's -------------------------------------------------------------------------------
using Names = std::pair<std::string_view, std::string_view>;

constexpr auto kModelNames = std::to_array<Names>({
    {"model.embed_tokens.weight", "token_embd.weight"},
    {"model.norm.weight", "output_norm.weight"},
    {"lm_head.weight", "output.weight"},
});

constexpr Names kLayerPrefix = {"model.layers.", "blk."};
constexpr auto kLayerNames = std::to_array<Names>({
    {"input_layernorm.weight", "attn_norm.weight"},
    {"self_attn.q_proj.weight", "attn_q.weight"},
    {"self_attn.k_proj.weight", "attn_k.weight"},
    {"self_attn.v_proj.weight", "attn_v.weight"},
    {"self_attn.o_proj.weight", "attn_output.weight"},
    {"post_attention_layernorm.weight", "ffn_norm.weight"},
    {"mlp.gate_proj.weight", "ffn_gate.weight"},
    {"mlp.up_proj.weight", "ffn_up.weight"},
    {"mlp.down_proj.weight", "ffn_down.weight"},
});

std::string_view partner(std::span<const Names> table, std::string_view name, std::string_view Names::*from,
                         std::string_view Names::*to) {
  const auto* const end = table.data() + table.size();
  const auto* const found = std::find_if(table.data(), end, [&](const Names& names) { return names.*from == name; });
  return found == end ? "" : found->*to;
}

// The name of the other side, "" if it has none.
std::string translate(std::string_view name, std::string_view Names::*from, std::string_view Names::*to) {
  if (const std::string_view other = partner(kModelNames, name, from, to); !other.empty()) return std::string(other);
  if (!name.starts_with(kLayerPrefix.*from)) return "";
  name.remove_prefix((kLayerPrefix.*from).size());
  const std::size_t dot = std::min(name.find('.'), name.size());
  const std::string_view layer = name.substr(0, dot);
  const bool is_number = !layer.empty() && layer.size() < 9 && (layer == "0" || layer.front() != '0') &&
                         std::ranges::all_of(layer, [](char c) { return c >= '0' && c <= '9'; });
  if (!is_number || dot == name.size()) return "";
  const std::string_view other = partner(kLayerNames, name.substr(dot + 1), from, to);
  return other.empty() ? "" : fmt::format("{}{}.{}", kLayerPrefix.*to, layer, other);
}

std::string gguf_name(std::string_view name) { return translate(name, &Names::first, &Names::second); }

// Frequencies that old checkpoints carry along; they follow from the config.
bool is_ignored(std::string_view name) { return name.ends_with(".rotary_emb.inv_freq"); }

// ---- files ----------------------------------------------------------------------------------------------------------
// The files of the index, each once.
std::set<std::string> weight_files(const json& index, const std::string& path) {
  const auto map = index.is_object() ? index.find("weight_map") : index.end();
  require(map != index.end() && map->is_object() && !map->empty(),
          "{}: weight_map is missing or empty, expected an object of tensor names and file names", path);
  std::set<std::string> files;
  for (const auto& [name, value] : map->items()) {
    const std::string file = value.is_string() ? value.get<std::string>() : "";
    // Nothing that leaves the folder, and nothing that would break a line of an error.
    const bool plain = file.ends_with(".safetensors") &&
                       std::ranges::none_of(file, [](char c) { return c == '/' || c == '\\' || c < ' ' || c > '~'; });
    if (!plain)
      fail("{}: weight_map: {} is in {}, expected a file NAME.safetensors in the same folder", path, shown(name),
           shown(value));
    files.insert(file);
  }
  return files;
}

}  // namespace

std::string hf_name(std::string_view gguf_name) { return translate(gguf_name, &Names::second, &Names::first); }

HfFolder::HfFolder(const std::string& path) : path_(path), tensors_(path, hf_name) {
  config_ = std::make_shared<const json>(read_json(config_path(), kMostJsonBytes));
  require(config_->is_object(), "{}: found {}, expected a JSON object", config_path(), shown(*config_));
}

HfFolder HfFolder::open(const std::string& path) {
  HfFolder folder(path.substr(0, path.find_last_not_of('/') + 1));
  const auto has = [&](std::string_view name) {
    std::error_code error;
    return std::filesystem::exists(std::filesystem::path(folder.path_) / name, error);
  };
  if (has(kWeights)) {
    folder.add_file(std::string(kWeights));
    return folder;
  }
  require(has(kIndex), "{}: holds neither {} nor {}", folder.path_, kWeights, kIndex);
  const std::string index_path = fmt::format("{}/{}", folder.path_, kIndex);
  const json index = read_json(index_path, kMostJsonBytes);
  std::map<std::string, std::set<std::string>> present;  // file -> its tensors
  for (const std::string& file : weight_files(index, index_path)) present[file] = folder.add_file(file);
  for (const auto& [name, file] : index["weight_map"].items())
    if (!present[file.get<std::string>()].contains(name))
      fail("{}: weight_map: tensor {} is not in {}", index_path, shown(name), shown(file));
  return folder;
}

std::set<std::string> HfFolder::add_file(const std::string& name) {
  const std::string path = fmt::format("{}/{}", path_, name);
  files_.emplace_back(path);
  std::set<std::string> names;
  for (TensorView& tensor : read_safetensors(path, files_.back().bytes())) {
    names.insert(tensor.name);
    if (is_ignored(tensor.name)) continue;
    std::string known = gguf_name(tensor.name);
    require(!known.empty(), "{}: tensor \"{}\" is not part of a model as it is known here", path, tensor.name);
    tensor.name = std::move(known);
    tensors_.add(std::move(tensor), path);
  }
  return names;
}

std::string HfFolder::model_type() const {
  const auto type = config_->find("model_type");
  require(type != config_->end() && type->is_string(), "{}: model_type is {}, expected a string", config_path(),
          type == config_->end() ? "missing" : shown(*type));
  return type->get<std::string>();
}

void HfFolder::release_pages() const {
  for (const MappedFile& file : files_) file.release_pages();
}

}  // namespace lamina
