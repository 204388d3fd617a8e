// SPDX-License-Identifier: Apache-2.0
#include "kv/query_moments.h"

#include <algorithm>
#include <array>
#include <cassert>

namespace lamina {
namespace {

constexpr std::size_t kKeysAtOnce = 8;  // whose sums the compiler keeps in registers

using Keys = std::vector<std::array<double, kKeysAtOnce>>;  // [channel][key]

// Adds k . covariance k / 2: as the matrix is symmetric, half of it is read.
void add_spread(const std::vector<double>& covariance, const Keys& keys, double* scores) {
  const std::size_t dim = keys.size();
  for (std::size_t i = 0; i < dim; ++i) {
    const double* const row = &covariance[i * dim];
    std::array<double, kKeysAtOnce> sum{};
    for (std::size_t j = 0; j < i; ++j)
      for (std::size_t k = 0; k < kKeysAtOnce; ++k) sum[k] += row[j] * keys[j][k];
    for (std::size_t k = 0; k < kKeysAtOnce; ++k) scores[k] += keys[i][k] * (sum[k] + row[i] * keys[i][k] / 2);
  }
}

}  // namespace

QueryMoments::QueryMoments(int head_dim)
    : dim_(static_cast<std::size_t>(head_dim)), sums_(dim_), products_(dim_ * (dim_ + 1) / 2) {}

void QueryMoments::add(const float* queries, std::size_t stride, std::size_t count) {
  std::vector<double> x(dim_);
  for (std::size_t t = 0; t < count; ++t) {
    std::copy_n(queries + t * stride, dim_, x.begin());
    double* row = products_.data();
    for (std::size_t i = 0; i < dim_; row += ++i) {
      sums_[i] += x[i];
      for (std::size_t j = 0; j <= i; ++j) row[j] += x[i] * x[j];
    }
  }
  count_ += count;
}

// One vector of channels `stride` apart, in place.
void QueryMoments::turn(double* x, std::size_t stride) const {
  const std::size_t pairs = next_.turn.size();
  for (std::size_t i = 0; i < pairs; ++i) {
    double& a = x[(next_.interleaved ? 2 * i : i) * stride];
    double& b = x[(next_.interleaved ? 2 * i + 1 : i + pairs) * stride];
    const std::complex<double> turned = std::complex(a, b) * next_.turn[i];
    a = turned.real();
    b = turned.imag();
  }
}

QueryMoments::Normal QueryMoments::next() const {
  Normal normal{.mean = sums_, .covariance = std::vector<double>(dim_ * dim_)};
  if (count_ == 0) return normal;
  const double n = static_cast<double>(count_), scale = next_.scale;
  for (double& x : normal.mean) x /= n;
  const double* product = products_.data();
  for (std::size_t i = 0; i < dim_; ++i)
    for (std::size_t j = 0; j <= i; ++j) {
      const double x = *product++ / n - normal.mean[i] * normal.mean[j];
      normal.covariance[i * dim_ + j] = normal.covariance[j * dim_ + i] = scale * scale * x;
    }
  for (double& x : normal.mean) x *= scale;
  turn(normal.mean.data(), 1);
  for (std::size_t i = 0; i < dim_; ++i) turn(&normal.covariance[i * dim_], 1);
  for (std::size_t i = 0; i < dim_; ++i) turn(&normal.covariance[i], dim_);
  return normal;
}

std::vector<double> expected_scores(const QueryMoments::Normal& q, std::span<const float> keys, bool covariance) {
  const std::size_t dim = q.mean.size(), rows = keys.size() / dim;
  std::vector<double> scores((rows + kKeysAtOnce - 1) / kKeysAtOnce * kKeysAtOnce);
  Keys block(dim);
  for (std::size_t first = 0; first < rows; first += kKeysAtOnce) {
    double* const to = &scores[first];
    for (std::size_t c = 0; c < dim; ++c)
      for (std::size_t k = 0; k < kKeysAtOnce; ++k) {
        block[c][k] = first + k < rows ? keys[(first + k) * dim + c] : 0;
        to[k] += q.mean[c] * block[c][k];
      }
    if (covariance) add_spread(q.covariance, block, to);
  }
  scores.resize(rows);
  return scores;
}

}  // namespace lamina
