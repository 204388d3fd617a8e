// SPDX-License-Identifier: Apache-2.0
// The operations on the rows of a step that know neither cache nor attention, each with what it costs a profile.
#include "model/forward_step.h"

namespace lamina {
namespace {

// For each number that it goes over.
constexpr Work kNormWork{.bytes = 2 * sizeof(float), .f32_ops = 4};
constexpr Work kActivateWork{.bytes = 3 * sizeof(float), .f32_ops = 4};
constexpr Work kAddWork{.bytes = 3 * sizeof(float), .f32_ops = 1};
constexpr Work kQuantizeWork{.bytes = sizeof(float) + 1};

// Weights are read once, however many rows they meet; integer weights meet each digit of a row.
Work product_work(std::span<const Product> products, const Activations& x) {
  Work work;
  for (const Product& product : products) {
    work.bytes += static_cast<double>(product.w->bytes());
    const bool integer = is_integer(product.w->format());
    (integer ? work.int_ops : work.f32_ops) +=
        2.0 * (integer ? x.digits() : 1) * x.rows() * static_cast<double>(product.w->rows() * product.w->cols());
  }
  return work;
}

}  // namespace

// What the next products multiply with: [inputs.size()][cols].
void Model::set_input(Step& step, const float* x, std::span<const Inputs> inputs, int cols) {
  const Timed timed = step.time_each(Op::kQuantize, inputs.size() * static_cast<std::size_t>(cols), kQuantizeWork);
  step.work.input.set(x, inputs, cols, step.pool);
}

void Model::multiply(Step& step, Op op, std::initializer_list<Product> products) {
  const std::span<const Product> all(products.begin(), products.size());
  const Timed timed = step.time(op, [&] { return product_work(all, step.work.input); });
  matmul(step.pool, step.work.input, all);
}

void Model::norm(Step& step, const std::vector<float>& x, const std::vector<float>& weight, std::vector<float>& out) {
  const std::size_t n = weight.size();
  const Timed timed = step.time_each(Op::kNorm, step.tokens * n, kNormWork);
  step.each_row(
      [&](std::size_t row) { step.ops.rmsnorm(&x[row * n], weight.data(), n, config_.norm_eps, &out[row * n]); });
}

void Model::norm_heads(Step& step, std::vector<float>& x, int heads, const std::vector<float>& weight) {
  const std::size_t dim = weight.size(), width = static_cast<std::size_t>(heads) * dim;
  const Timed timed = step.time_each(Op::kNorm, step.tokens * width, kNormWork);
  step.each_row([&](std::size_t row) {
    for (float* values = &x[row * width]; values < x.data() + (row + 1) * width; values += dim)
      step.ops.rmsnorm(values, weight.data(), dim, config_.norm_eps, values);
  });
}

// Of these tokens, the last that anything is done with: into h.
void Model::norm_last(Step& step, std::span<const std::size_t> rows) {
  Workspace& work = step.work;
  const std::size_t n = weights_.norm.size();
  const Timed timed = step.time_each(Op::kNorm, rows.size() * n, kNormWork);
  for (std::size_t i = 0; i < rows.size(); ++i)
    step.ops.rmsnorm(&work.x[rows[i] * n], weights_.norm.data(), n, config_.norm_eps, &work.h[i * n]);
}

// gate = activation(gate) * up
void Model::activate(Step& step) {
  Workspace& work = step.work;
  const auto ffn = static_cast<std::size_t>(config_.ffn);
  const auto gated = config_.architecture == Architecture::kGemma3 ? step.ops.gelu_tanh_mul : step.ops.silu_mul;
  const Timed timed = step.time_each(Op::kActivate, step.tokens * ffn, kActivateWork);
  step.each_row(
      [&](std::size_t row) { gated(&work.gate[row * ffn], &work.up[row * ffn], ffn, &work.gate[row * ffn]); });
}

void Model::add(Step& step, std::vector<float>& x, const std::vector<float>& y) {
  const auto hidden = static_cast<std::size_t>(config_.hidden);
  const Timed timed = step.time_each(Op::kAdd, step.tokens * hidden, kAddWork);
  step.each_row([&](std::size_t row) { step.ops.add(&x[row * hidden], &y[row * hidden], hidden); });
}

}  // namespace lamina
