// SPDX-License-Identifier: Apache-2.0
// What one step of a forward pass carries from layer to layer. Of forward*.cpp only.
#pragma once
#include <algorithm>
#include <cstddef>
#include <numeric>
#include <span>
#include <vector>

#include "kernels/kernels.h"
#include "model/forward.h"

namespace lamina {

struct Model::Step {
  std::span<const Chunk> chunks;
  Workspace& work;
  ThreadPool& pool;
  const Kernels& ops;
  std::size_t logits = 0;   // rows of logits that the call has already
  Pos ahead = 0;            // tokens that the sequence has beyond its last commit
  StepTrace* to = nullptr;  // what is recorded
  const StepTrace* from = nullptr;
  int first_layer = 0;              // layers below it come from `from`
  std::size_t tokens = 0;           // of all chunks: those that the layer at hand gets, which prune() lessens
  std::vector<std::size_t> rows{};  // [chunk] the same of each
  struct Sequence {
    KvSequence* kv;
    std::size_t chunk;
  };
  std::vector<Sequence> sequences{};  // of all chunks, followers behind those that they follow

  // Calls fn(row) for every token of the step. Handing out a row at a time took a tenth of a prompt's time.
  template <class Fn>
  void each_row(Fn&& fn) {
    constexpr std::size_t kTaskRows = 16;
    pool.parallel_for(static_cast<int>((tokens + kTaskRows - 1) / kTaskRows), [&](int task, int) {
      const std::size_t first = static_cast<std::size_t>(task) * kTaskRows;
      for (std::size_t row = first; row < std::min(tokens, first + kTaskRows); ++row) fn(row);
    });
  }
  // Calls fn(chunk, its first row, its rows) for every chunk.
  template <class Fn>
  void each_chunk(Fn&& fn) {
    std::size_t row = 0;
    for (std::size_t i = 0; i < chunks.size(); row += rows[i++]) fn(chunks[i], row, rows[i]);
  }
  // Calls fn(i, chunk, its first row, its rows) for the i-th of all sequences, beside each other: fn works on what is
  // the sequence's own.
  template <class Fn>
  void each_sequence_apart(Fn&& fn) {
    std::vector<std::size_t> first(rows.size());
    std::exclusive_scan(rows.begin(), rows.end(), first.begin(), std::size_t{0});
    pool.parallel_for(static_cast<int>(sequences.size()), [&](int task, int) {
      const auto i = static_cast<std::size_t>(task);
      const std::size_t chunk = sequences[i].chunk;
      fn(i, chunks[chunk], first[chunk], rows[chunk]);
    });
  }
  // Until the end of the scope, if there is a profile: asked() says what work it is.
  template <class Fn>
  Timed time(Op op, Fn asked) const {
    return Timed(work.profile, op, asked);
  }
  // The same of an operation on so many numbers, each of which takes so much.
  Timed time_each(Op op, std::size_t numbers, const Work& each) const {
    return time(op, [&] { return static_cast<double>(numbers) * each; });
  }
  // What reaches a layer is what reached it when it was recorded.
  void take_rows(const StepTrace::Layer& known) {
    rows = known.rows;
    work.positions = known.positions;
    tokens = known.positions.size();
    mark_inputs();
  }
  // Long prompts take their time multiplying, so they have one digit; decoding waits for memory, and rows of float32
  // ask for the exact result. It is a matter of the prompt, not of how many tokens come at once: its chunks and
  // sequences beside it change no bit.
  void mark_inputs() {
    constexpr Pos kLongPrompt = 64;
    work.inputs.clear();
    each_chunk([&](const Chunk& chunk, std::size_t, std::size_t n) {
      const bool coarse =
          chunk.prompt && chunk.kv->expected_prompt() >= kLongPrompt && chunk.kv->spec().widest() != Format::kF32;
      work.inputs.insert(work.inputs.end(), n, coarse ? Inputs::kCoarse : Inputs::kFine);
    });
  }
  std::span<const Inputs> inputs(std::size_t row, std::size_t n) const {
    return std::span(work.inputs).subspan(row, n);
  }
  std::span<const Pos> positions(std::size_t row, std::size_t n) const {
    return std::span(work.positions).subspan(row, n);
  }
};

}  // namespace lamina
