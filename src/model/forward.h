// SPDX-License-Identifier: Apache-2.0
// Model: a file's weights and the forward pass over them.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "attention/attention.h"
#include "base/thread_pool.h"
#include "kv/sequence.h"
#include "model/config.h"
#include "model/model_file.h"
#include "model/profile.h"
#include "model/weights.h"

namespace lamina {

using Token = std::int32_t;

// The next tokens of one sequence.
struct Chunk {
  enum class Logits { kNone, kLast, kAll };  // for which of the tokens logits are wanted

  KvSequence* kv = nullptr;
  std::span<const Token> tokens;
  Logits logits = Logits::kLast;
  bool prompt = false;  // tokens of a prompt: how many come in one step changes no bit of their logits
  // Of a prompt that these share with `kv` from its start (KvSpec::same_prompt): they get the same rows, and what their
  // policies measure.
  std::span<KvSequence* const> followers{};

  // Calls fn(sequence) for `kv` and its followers.
  template <class Fn>
  void each_sequence(Fn fn) const {
    fn(*kv);
    for (KvSequence* const follower : followers) fn(*follower);
  }
};

// The states of one step, layer by layer: what a search records once, to feed it back to steps that differ only above.
struct StepTrace {
  struct Layer {
    std::vector<std::size_t> rows;  // [chunk] tokens that reach the layer: a token policy may prune a prompt
    std::vector<Pos> positions;     // [tokens] theirs
    std::vector<float> x;           // [tokens][hidden] before the layer
    std::vector<float> k, v;        // [tokens][kv_heads][head_dim] as appended; empty where no chunk's map writes
  };
  std::vector<Layer> layers;
  std::vector<float> h;  // [tokens][hidden] after the final norm
};

// Buffers of a forward pass, grown to the largest step seen.
struct Workspace {
  explicit Workspace(Isa of = chosen_isa()) : isa(of), input(kernels(of)), attention(attend_kernels(of)) {}

  Isa isa;                          // whose kernels the pass runs on
  std::vector<float> x, h;          // [tokens][hidden] residual stream, and its norm or a block's output
  std::vector<float> pass_x;        // [tokens][hidden] what every run of an iterated pass starts from
  std::vector<float> q, k, v;       // [tokens][heads or kv_heads][head_dim]
  std::vector<float> attended;      // [tokens][heads][head_dim]
  std::vector<float> lse;           // [tokens][heads] log-sum-exp of the attention scores
  std::vector<float> gate, up;      // [tokens][ffn]
  std::vector<float> logits;        // [wanted rows][vocab]
  Activations input;                // what a matrix product reads
  std::vector<Inputs> inputs;       // [tokens] how exactly
  std::vector<Inputs> head_inputs;  // [wanted rows]
  AttentionScratch attention;
  std::vector<Rope> ropes;     // of layers without and with a window
  std::vector<Pos> positions;  // [tokens]
  std::vector<Query> queries;  // one a chunk
  Profile* profile = nullptr;  // where each operation's time is noted, if anywhere

  void give_back();  // the memory of the last step but its logits: after a long one
};

class Model {
 public:
  // Reads the GGUF file or Hugging Face folder at `path`; Error if it is not a model that this program can run.
  static Model load(const std::string& path, ThreadPool& pool);
  Model(ModelFile file, ThreadPool& pool);

  // Runs one step: appends the chunks' rows to their sequences and returns logits [wanted rows][vocab], in the order
  // of the chunks and their tokens, valid until the next call. The caller commits. A sequence's logits do not depend
  // on the other chunks, nor on the number of threads. Error if a token is not in the vocabulary.
  // Where a map reads upwards, a chunk of more tokens than the map has iterations runs by its plan of passes, a shorter
  // one token by token (LCKV, arXiv:2405.10637, 3.2).
  std::span<const float> forward(std::span<const Chunk> chunks, Workspace& work, ThreadPool& pool);

  // A step of maps that do not read upwards, recorded into `to`.
  std::span<const float> record(std::span<const Chunk> chunks, Workspace& work, ThreadPool& pool, StepTrace& to);
  // The same with the states of the layers below `first` from `from`, whose maps agree with these below that layer:
  // only layers from there on are computed, and recorded into `to`, which may be `from`.
  std::span<const float> resume(std::span<const Chunk> chunks, Workspace& work, ThreadPool& pool, const StepTrace& from,
                                int first, StepTrace& to);

  const ModelConfig& config() const { return config_; }
  const ModelFile& file() const { return file_; }
  const Weights& weights() const { return weights_; }
  KvShape shape() const { return kv_shape(config_); }
  // How often K and V of a layer were computed for a token: sharing layers must not.
  std::uint64_t kv_products() const { return kv_products_; }

 private:
  struct Step;  // some tokens on their way through the layers
  std::size_t start(std::span<const Chunk> chunks, Workspace& work) const;
  static bool iterates(const Chunk& chunk);
  std::size_t run(const Chunk& chunk, Workspace& work, ThreadPool& pool, std::size_t logits);
  std::size_t run(Step& step);
  void run(Step& step, int first, int last);
  void begin(Step& step);
  void embed(Step& step);
  void replay(Step& step, int layer);
  void prune(Step& step, int layer);
  void attention(Step& step, int layer);
  void project(Step& step, int layer);
  void append(Step& step, int layer);
  void attend_rows(Step& step, int layer);
  void feed_forward(Step& step, int layer);
  std::size_t head(Step& step);
  void set_input(Step& step, const float* x, std::span<const Inputs> inputs, int cols);
  static void multiply(Step& step, Op op, std::initializer_list<Product> products);  // of work.input
  void norm(Step& step, const std::vector<float>& x, const std::vector<float>& weight, std::vector<float>& out);
  void norm_heads(Step& step, std::vector<float>& x, int heads, const std::vector<float>& weight);
  void norm_last(Step& step, std::span<const std::size_t> rows);
  void activate(Step& step);
  void add(Step& step, std::vector<float>& x, const std::vector<float>& y);
  static bool writes(const Chunk& chunk, int layer);
  void note_classes(KvSequence& kv, std::span<const Token> tokens, Pos ahead);
  const Rope& rope_of(const Workspace& work, int layer) const;

  ModelFile file_;
  ModelConfig config_;
  Weights weights_;
  std::vector<TokenClass> classes_;  // [token], once a policy has asked for them
  std::uint64_t kv_products_ = 0;
  std::size_t embedded_ = 0;  // tokens since the file's pages were given back
};

}  // namespace lamina
