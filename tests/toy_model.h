// SPDX-License-Identifier: Apache-2.0
// A transformer of 4 layers with one head of 2 numbers, small enough to be obviously right: the judge of what layers
// that read other layers' rows must give, token by token and in passes. All in double precision. Its weights come from
// a linear congruential generator, so that other implementations can repeat its figures.
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kv/layers/passes.h"

namespace lamina::toy {

using Vector = std::array<double, 2>;
using Matrix = std::array<Vector, 2>;  // [row][column]

struct Layer {
  Matrix q, k, v, o, m;
};

// A token as one layer stores it: the key with rope applied.
struct Row {
  int pos = 0;
  Vector key{}, value{};
};

inline Vector sum(const Vector& a, const Vector& b) { return {a[0] + b[0], a[1] + b[1]}; }
inline double dot(const Vector& a, const Vector& b) { return a[0] * b[0] + a[1] * b[1]; }
inline Vector product(const Matrix& matrix, const Vector& x) { return {dot(matrix[0], x), dot(matrix[1], x)}; }

inline Matrix matrix(std::uint64_t seed) {
  Matrix entries{};
  for (Vector& row : entries)
    for (double& entry : row) {
      seed = (1103515245 * seed + 12345) % (1ULL << 31);
      entry = std::round(1e4 * 2 * (static_cast<double>(seed) / static_cast<double>(1ULL << 31) - 0.5)) / 1e4;
    }
  return entries;
}

inline std::vector<Layer> toy_layers() {
  std::vector<Layer> made;
  for (std::uint64_t i = 0; i < 4; ++i)
    made.push_back({matrix(1 + i), matrix(11 + i), matrix(21 + i), matrix(31 + i), matrix(41 + i)});
  return made;
}

inline std::vector<Vector> inputs() { return {{0.5, -1}, {1, 0.25}, {-0.75, 0.5}, {0.3, 0.9}, {-0.2, -0.6}}; }

inline Vector norm(const Vector& x) {
  const double scale = 1 / std::sqrt(dot(x, x) / 2 + 1e-5);
  return {x[0] * scale, x[1] * scale};
}

// Rope of 2 channels: base ^ 0 = 1, so the angle is the position.
inline Vector rotated(const Vector& x, int pos) {
  const double c = std::cos(pos), s = std::sin(pos);
  return {x[0] * c - x[1] * s, x[0] * s + x[1] * c};
}

// The parts of a layer, each on one token's hidden state.
inline Vector query(const Layer& layer, const Vector& hidden, int pos) {
  return rotated(product(layer.q, norm(hidden)), pos);
}
inline Row row(const Layer& layer, const Vector& hidden, int pos) {
  const Vector x = norm(hidden);
  return {pos, rotated(product(layer.k, x), pos), product(layer.v, x)};
}
inline Vector attend(const Vector& q, std::span<const Row> rows) {
  double total = 0;
  Vector out{};
  for (const Row& r : rows) {  // scores are small: no maximum need be taken off
    const double weight = std::exp(dot(q, r.key) / std::sqrt(2.0));
    total += weight;
    out = sum(out, {weight * r.value[0], weight * r.value[1]});
  }
  return rows.empty() ? Vector{} : Vector{out[0] / total, out[1] / total};
}
inline Vector output(const Layer& layer, const Vector& hidden, const Vector& attended) {
  const Vector h = sum(hidden, product(layer.o, attended));
  const Vector mlp = product(layer.m, norm(h));
  return sum(h, {std::tanh(mlp[0]), std::tanh(mlp[1])});
}

// What a run leaves behind, and what another can go on from.
struct State {
  std::vector<std::vector<Row>> rows;               // [layer][position]; empty for a layer that nobody reads
  std::vector<Vector> out;                          // [position] the hidden state after the topmost layer
  std::vector<std::vector<std::vector<int>>> seen;  // [position][layer] positions that the last pass attended to
};

struct Model {
  std::vector<int> target;  // [layer] the layer whose rows it reads
  std::vector<Layer> layers = toy_layers();
  bool no_diagonal = false;  // LCKV's force_nodiag: no layer sees a token's own row

  bool computes_rows(std::size_t layer) const {
    return std::ranges::find(target, static_cast<int>(layer)) != target.end();
  }
  bool sees_itself(std::size_t layer) const { return !no_diagonal && target[layer] <= static_cast<int>(layer); }
};

inline State start(const Model& model) { return {std::vector<std::vector<Row>>(model.layers.size()), {}, {}}; }

// One layer, one token: stores its row over what an earlier pass stored, then attends to the rows below position `end`.
inline Vector step(const Model& model, std::size_t layer, Vector hidden, int pos, int end, State& state) {
  const Layer& weights = model.layers[layer];
  const auto p = static_cast<std::size_t>(pos);
  if (model.computes_rows(layer)) {
    std::vector<Row>& own = state.rows[layer];
    own.resize(std::max(own.size(), p + 1));
    own[p] = row(weights, hidden, pos);
  }
  const std::vector<Row>& held = state.rows[static_cast<std::size_t>(model.target[layer])];
  const std::span visible(held.data(), std::min(held.size(), static_cast<std::size_t>(end)));
  state.seen.resize(std::max(state.seen.size(), p + 1), std::vector<std::vector<int>>(model.layers.size()));
  state.seen[p][layer].clear();
  for (const Row& r : visible) state.seen[p][layer].push_back(r.pos);
  return output(weights, hidden, attend(query(weights, hidden, pos), visible));
}

// Token by token, the definition: a layer attends to whatever its target holds by then, an upward reader therefore to
// the tokens before.
inline State decode(const Model& model, std::span<const Vector> x, State state) {
  for (Vector hidden : x) {
    const int pos = static_cast<int>(state.out.size());
    for (std::size_t layer = 0; layer < model.layers.size(); ++layer)
      hidden = step(model, layer, hidden, pos, model.no_diagonal ? pos : pos + 1, state);
    state.out.push_back(hidden);
  }
  return state;
}

// All tokens at once, iterated passes `times` times. Rows in `state` beyond its outputs are what upward readers meet in
// the first pass; without any they meet nothing.
inline State prefill(const Model& model, std::span<const Vector> x, int times, State state) {
  const int past = static_cast<int>(state.out.size());
  std::vector<Vector> hidden(x.begin(), x.end());
  for (const Pass& pass : plan_passes(model.target)) {
    const std::vector<Vector> input = hidden;
    for (int time = 0; time < (pass.iterated ? times : 1); ++time) {
      hidden = input;
      for (int layer = pass.first; layer < pass.last; ++layer) {
        const auto l = static_cast<std::size_t>(layer);
        // No token sees a later one, so it may attend before their rows of this pass are stored.
        for (std::size_t t = 0; t < x.size(); ++t) {
          const int pos = past + static_cast<int>(t);
          hidden[t] = step(model, l, hidden[t], pos, model.sees_itself(l) ? pos + 1 : pos, state);
        }
      }
    }
  }
  state.out.insert(state.out.end(), hidden.begin(), hidden.end());
  return state;
}

inline State decode(const Model& model, std::span<const Vector> x) { return decode(model, x, start(model)); }
inline State prefill(const Model& model, std::span<const Vector> x, int times) {
  return prefill(model, x, times, start(model));
}

}  // namespace lamina::toy
