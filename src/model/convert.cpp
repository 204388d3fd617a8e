// SPDX-License-Identifier: Apache-2.0
#include "model/convert.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/half.h"
#include "model/dequant.h"
#include "model/lckv_config.h"
#include "model/safetensors_writer.h"
#include "model/tokenizer_writer.h"

namespace lamina {
namespace {

namespace fs = std::filesystem;

bool has_own_head(const ModelFile& source) {
  if (source.tensors().find("output.weight") == nullptr) return false;
  // A folder may hold a copy of the embedding under this name.
  return source.folder() == nullptr || source.folder()->config().value("tie_word_embeddings", nlohmann::json()) != true;
}

// `all`: with K and V of every layer.
void require_exactly(const ModelFile& source, const std::vector<LckvTensor>& all) {
  std::set<std::string, std::less<>> known = {"output.weight"};
  for (const LckvTensor& tensor : all) {
    const TensorView& view = source.tensors().tensor(tensor.sources.front());
    known.insert(view.name);
    require(view.shape == tensor.shape, "{}: tensor {} is [{}], expected [{}]", source.path(),
            source.tensors().quoted(view.name), fmt::join(view.shape, ","), fmt::join(tensor.shape, ","));
  }
  for (const TensorView& tensor : source.tensors())
    require(known.contains(tensor.name), "{}: tensor {} has no place in the result", source.path(),
            source.tensors().quoted(tensor.name));
}

// ---- weights --------------------------------------------------------------------------------------------------------

constexpr std::size_t kBufferBytes = std::size_t{1} << 20;

// The row of GGUF's llama that is this row here. There rope turns pairs of neighbours (2i, 2i + 1) of a head, here
// pairs (i, i + head_dim / 2).
std::int64_t gguf_row(std::int64_t row, int head_dim) {
  const std::int64_t in_head = row % head_dim, half = head_dim / 2;
  return row - in_head + (in_head < half ? 2 * in_head : 2 * (in_head - half) + 1);
}

void append_rounded(TensorType type, double value, std::vector<std::byte>& out) {
  const auto put = [&](const auto& bits) {
    const auto* const bytes = reinterpret_cast<const std::byte*>(&bits);
    out.insert(out.end(), bytes, bytes + sizeof bits);
  };
  const auto single = static_cast<float>(value);
  if (type == TensorType::kF32) {
    put(single);
  } else {
    put(type == TensorType::kF16 ? f16_from_f32(single) : bf16_from_f32(single));
  }
}

bool fits(TensorType type, double value) {
  const auto single = static_cast<float>(value);
  if (type == TensorType::kF16) return std::isfinite(f32_from_f16(f16_from_f32(single)));
  return std::isfinite(type == TensorType::kF32 ? single : f32_from_bf16(bf16_from_f32(single)));
}

// One tensor, row by row: the mean of its sources, in double.
void write_tensor(const ModelFile& source, const LckvTensor& tensor, int head_dim, TensorType type,
                  SafetensorsWriter& out) {
  std::vector<const TensorView*> views;
  for (const std::string& name : tensor.sources) views.push_back(&source.tensors().tensor(name));
  const auto cols = static_cast<std::size_t>(tensor.shape.back());
  const std::int64_t rows = tensor.shape.size() == 1 ? 1 : tensor.shape.front();
  const bool reorder = tensor.rotated && source.gguf() != nullptr;
  std::vector<float> values(cols);
  std::vector<double> sums(cols);
  std::vector<std::byte> bytes;
  for (std::int64_t row = 0; row < rows; ++row) {
    std::fill(sums.begin(), sums.end(), 0.0);
    for (const TensorView* view : views) {
      dequantize(view->type, view->row(reorder ? gguf_row(row, head_dim) : row), values);
      for (std::size_t i = 0; i < cols; ++i) sums[i] += static_cast<double>(values[i]);
    }
    for (const double sum : sums) {
      const double mean = sum / static_cast<double>(views.size());
      if (!fits(type, mean))
        fail("{}: tensor {} holds {} in row {}, which {} does not", source.path(),
             source.tensors().quoted(tensor.sources.front()), mean, row, name(type));
      append_rounded(type, mean, bytes);
    }
    if (bytes.size() < kBufferBytes && row + 1 < rows) continue;
    out.write(bytes);
    bytes.clear();
  }
}

// ---- the folder -----------------------------------------------------------------------------------------------------

// The folder under the name DIR.part, gone again unless it is kept.
class PartFolder {
 public:
  explicit PartFolder(const std::string& folder) : final_(fs::absolute(folder).lexically_normal()) {
    if (!final_.has_filename()) final_ = final_.parent_path();  // of a path that ends with '/'
    std::error_code error;
    const bool is_free = !fs::exists(final_, error) || (fs::is_directory(final_, error) && fs::is_empty(final_, error));
    require(is_free, "{}: exists, expected a folder to be made or an empty one", folder);
    part_ = final_;
    part_ += ".part";
    const bool made = fs::create_directory(part_, error);
    require(made || error, "{}: is there, from a conversion that was cut short perhaps: remove it", part_.string());
    require(made, "{}: cannot be made: {}", part_.string(), error.message());
  }
  ~PartFolder() {
    std::error_code error;
    if (!kept_) fs::remove_all(part_, error);
  }
  PartFolder(const PartFolder&) = delete;
  PartFolder& operator=(const PartFolder&) = delete;

  std::string file(std::string_view name) const { return part_ / name; }

  void write(std::string_view name, const std::string& text) const {
    std::ofstream out(file(name), std::ios::binary);
    out << text << std::flush;
    require(out.good(), "{}: cannot be written", file(name));
  }

  void keep() {
    std::error_code error;
    fs::rename(part_, final_, error);
    require(!error, "{}: cannot be renamed to {}: {}", part_.string(), final_.string(), error.message());
    kept_ = true;
  }

 private:
  fs::path final_, part_;
  bool kept_ = false;
};

// Returns why there is no tokenizer.json.
std::string copy_tokenizer(const HfFolder& source, const PartFolder& to) {
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.model",
                           "generation_config.json", "chat_template.jinja"}) {
    const fs::path from = fs::path(source.path()) / name;
    std::error_code error;
    if (!fs::exists(from, error)) continue;
    fs::copy_file(from, to.file(name), error);
    require(!error, "{}: cannot be copied to {}: {}", from.string(), to.file(name), error.message());
  }
  return fs::exists(to.file("tokenizer.json")) ? "" : fmt::format("{}: no tokenizer.json in it", source.path());
}

std::string write_tokenizer(const ModelFile& source, const PartFolder& to) {
  if (source.folder() != nullptr) return copy_tokenizer(*source.folder(), to);
  TokenizerFiles files;
  try {
    files = tokenizer_files(*source.gguf());
  } catch (const Error& error) {
    return error.what();
  }
  to.write("tokenizer.json", files.tokenizer.dump(1) + "\n");
  to.write("tokenizer_config.json", files.tokenizer_config.dump(2) + "\n");
  to.write("generation_config.json", files.generation_config.dump(2) + "\n");
  return "";
}

std::uint64_t write_weights(const ModelFile& source, const ModelConfig& config, const std::vector<LckvTensor>& tensors,
                            TensorType type, const std::string& path,
                            const std::function<void(std::size_t, std::size_t)>& progress) {
  std::vector<SafetensorsEntry> entries;
  entries.reserve(tensors.size());
  for (const LckvTensor& tensor : tensors) entries.push_back({tensor.name, type, tensor.shape});
  SafetensorsWriter out(path, entries);
  for (std::size_t done = 0; done < tensors.size(); ++done) {
    progress(done, tensors.size());
    write_tensor(source, tensors[done], config.head_dim, type, out);
    source.release_pages();
  }
  progress(tensors.size(), tensors.size());
  return out.finish();
}

}  // namespace

void require_ordinary(const ModelFile& source, const ModelConfig& config) {
  const std::string architecture = source.architecture();
  require(architecture == "llama",
          "{}: the architecture is \"{}\", expected \"llama\": the result is an LCKV model, which is a Llama whose "
          "layers were ordinary before",
          source.path(), architecture);
  require(std::ranges::all_of(config.windows, [](Pos window) { return window == 0; }),
          "{}: its layers have sliding windows, expected none", source.path());
}

bool LckvMap::has_kv(int layer) const { return std::ranges::find(targets, layer) != targets.end(); }

std::vector<int> LckvMap::readers(int layer) const {
  std::vector<int> readers;
  for (int reader = 0; reader < static_cast<int>(targets.size()); ++reader)
    if (targets[static_cast<std::size_t>(reader)] == layer) readers.push_back(reader);
  return readers;
}

std::vector<LckvTensor> lckv_tensors(const ModelConfig& config, const LckvMap& map, bool own_head) {
  const std::int64_t hidden = config.hidden, ffn = config.ffn, vocab = config.vocab;
  const std::int64_t q_rows = std::int64_t{config.heads} * config.head_dim;
  const std::int64_t kv_rows = std::int64_t{config.kv_heads} * config.head_dim;
  std::vector<LckvTensor> out;
  const auto add = [&](const std::string& name, std::vector<std::int64_t> shape) -> LckvTensor& {
    return out.emplace_back(LckvTensor{.name = hf_name(name), .shape = std::move(shape), .sources = {name}});
  };
  add("token_embd.weight", {vocab, hidden});
  for (int layer = 0; layer < config.layers; ++layer) {
    const auto named = [&](std::string_view name) { return fmt::format("blk.{}.{}.weight", layer, name); };
    add(named("attn_norm"), {hidden});
    add(named("attn_q"), {q_rows, hidden}).rotated = true;
    for (const char* name : {"attn_k", "attn_v"}) {
      if (!map.has_kv(layer)) continue;
      LckvTensor& tensor = add(named(name), {kv_rows, hidden});
      tensor.rotated = name == std::string_view("attn_k");
      tensor.sources.clear();
      for (const int reader : map.readers(layer))
        tensor.sources.push_back(fmt::format("blk.{}.{}.weight", reader, name));
    }
    add(named("attn_output"), {hidden, q_rows});
    add(named("ffn_norm"), {hidden});
    add(named("ffn_gate"), {ffn, hidden});
    add(named("ffn_up"), {ffn, hidden});
    add(named("ffn_down"), {hidden, ffn});
  }
  add("output_norm.weight", {hidden});
  if (own_head) add("output.weight", {vocab, hidden});
  return out;
}

std::uint64_t parameters(const std::vector<LckvTensor>& tensors) {
  std::uint64_t sum = 0;
  for (const LckvTensor& tensor : tensors) {
    std::uint64_t product = 1;
    for (const std::int64_t size : tensor.shape) product *= static_cast<std::uint64_t>(size);
    sum += product;
  }
  return sum;
}

std::uint64_t kv_token_bytes(const ModelConfig& config, const LckvMap& map) {
  const std::set<int> kept(map.targets.begin(), map.targets.end());
  const auto row = static_cast<std::uint64_t>(config.kv_heads) * static_cast<std::uint64_t>(config.head_dim);
  return kept.size() * 2 * row * sizeof(std::uint16_t);
}

TensorType default_float_type(const ModelFile& source) {
  const TensorType type = source.tensors().tensor("token_embd.weight").type;
  return block_weights(type) == 1 ? type : TensorType::kF16;
}

LckvResult convert_lckv(const ModelFile& source, const LckvMap& map, TensorType type, const std::string& folder,
                        const std::function<void(std::size_t, std::size_t)>& progress) {
  const ModelConfig config = ModelConfig::from(source);
  require_ordinary(source, config);
  const bool own_head = has_own_head(source);
  LckvMap plain;
  for (int layer = 0; layer < config.layers; ++layer) plain.targets.push_back(layer);
  const std::vector<LckvTensor> before = lckv_tensors(config, plain, own_head);
  const std::vector<LckvTensor> after = lckv_tensors(config, map, own_head);
  const std::string config_text = lckv_config(source, config, map, type, own_head).dump(2) + "\n";
  require_exactly(source, before);
  LckvResult result{.parameters_before = parameters(before), .parameters_after = parameters(after)};
  result.kv_token_bytes = kv_token_bytes(config, map);
  PartFolder part(folder);
  part.write("config.json", config_text);
  result.no_tokenizer = write_tokenizer(source, part);
  result.weight_bytes = write_weights(source, config, after, type, part.file("model.safetensors"), progress);
  part.keep();
  return result;
}

}  // namespace lamina
