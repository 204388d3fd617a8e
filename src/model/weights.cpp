// SPDX-License-Identifier: Apache-2.0
#include "model/weights.h"

#include <cmath>
#include <set>
#include <string>

#include "base/error.h"
#include "model/dequant.h"

namespace lamina {
namespace {

class Loader {
 public:
  Loader(const ModelFile& file, ThreadPool& pool) : file_(file), pool_(pool), memory_(packed_bytes(file)) {}

  Matrix matrix(const std::string& name, std::int64_t rows, std::int64_t cols) {
    used_.insert(name);
    Matrix packed = Matrix::pack(file_.tensors().tensor(name, {rows, cols}), pool_, memory_);
    file_.release_pages();  // it is a copy
    return packed;
  }

  std::vector<float> vector(const std::string& name, std::int64_t size) {
    used_.insert(name);
    const TensorView& tensor = file_.tensors().tensor(name, {size});
    std::vector<float> values(static_cast<std::size_t>(size));
    dequantize(tensor.type, tensor.data, values);
    for (const float value : values)
      require(std::isfinite(value), "tensor \"{}\" holds weights that are not finite numbers", name);
    return values;
  }

  const TensorView& view(const std::string& name, std::int64_t rows, std::int64_t cols) {
    used_.insert(name);
    return file_.tensors().tensor(name, {rows, cols});
  }

  void ignore(const std::string& name) { used_.insert(name); }

  void check_all_used() const {
    for (const TensorView& tensor : file_.tensors())
      require(used_.contains(tensor.name) || tensor.name == "rope_freqs.weight",
              "{}: tensor {} is not part of this architecture as it is known here", file_.path(),
              file_.tensors().quoted(tensor.name));
  }

 private:
  // At most: an embedding that is not the head too is not packed.
  static std::size_t packed_bytes(const ModelFile& file) {
    std::size_t bytes = 0;
    for (const TensorView& tensor : file.tensors())
      if (tensor.shape.size() == 2) bytes += HugePages::rounded(Matrix::packed_bytes(tensor));
    return bytes;
  }

  const ModelFile& file_;
  ThreadPool& pool_;
  HugePages memory_;
  std::set<std::string, std::less<>> used_;
};

LayerWeights load_layer(Loader& in, const ModelConfig& config, int layer) {
  const std::string prefix = fmt::format("blk.{}.", layer);
  const int q_rows = config.heads * config.head_dim, kv_rows = config.kv_heads * config.head_dim;
  LayerWeights w;
  w.attention_norm = in.vector(prefix + "attn_norm.weight", config.hidden);
  w.q = in.matrix(prefix + "attn_q.weight", q_rows, config.hidden);
  if (config.has_kv(layer)) {
    w.k = in.matrix(prefix + "attn_k.weight", kv_rows, config.hidden);
    w.v = in.matrix(prefix + "attn_v.weight", kv_rows, config.hidden);
  } else {
    in.ignore(prefix + "attn_k.weight");
    in.ignore(prefix + "attn_v.weight");
  }
  w.o = in.matrix(prefix + "attn_output.weight", config.hidden, q_rows);
  w.ffn_norm = in.vector(prefix + "ffn_norm.weight", config.hidden);
  w.gate = in.matrix(prefix + "ffn_gate.weight", config.ffn, config.hidden);
  w.up = in.matrix(prefix + "ffn_up.weight", config.ffn, config.hidden);
  w.down = in.matrix(prefix + "ffn_down.weight", config.hidden, config.ffn);
  if (config.architecture == Architecture::kGemma3) {
    w.q_norm = in.vector(prefix + "attn_q_norm.weight", config.head_dim);
    w.k_norm = in.vector(prefix + "attn_k_norm.weight", config.head_dim);
    w.attention_post_norm = in.vector(prefix + "post_attention_norm.weight", config.hidden);
    w.ffn_post_norm = in.vector(prefix + "post_ffw_norm.weight", config.hidden);
  }
  return w;
}

}  // namespace

Weights load_weights(const ModelFile& file, const ModelConfig& config, ThreadPool& pool) try {
  Loader in(file, pool);
  Weights weights;
  weights.embedding = in.view("token_embd.weight", config.vocab, config.hidden);
  weights.norm = in.vector("output_norm.weight", config.hidden);
  for (int layer = 0; layer < config.layers; ++layer) weights.layers.push_back(load_layer(in, config, layer));
  weights.head = in.matrix(file.tensors().find("output.weight") ? "output.weight" : "token_embd.weight", config.vocab,
                           config.hidden);
  in.check_all_used();
  return weights;
} catch (const Error& error) {
  if (std::string_view(error.what()).starts_with(file.path())) throw;
  fail("{}: {}", file.path(), error.what());
}

std::size_t Weights::bytes() const {
  std::size_t bytes = head.bytes() + norm.size() * sizeof(float);
  for (const LayerWeights& w : layers) {
    for (const Matrix* m : {&w.q, &w.k, &w.v, &w.o, &w.gate, &w.up, &w.down}) bytes += m->bytes();
    for (const auto* v :
         {&w.attention_norm, &w.q_norm, &w.k_norm, &w.attention_post_norm, &w.ffn_norm, &w.ffn_post_norm})
      bytes += v->size() * sizeof(float);
  }
  return bytes;
}

}  // namespace lamina
