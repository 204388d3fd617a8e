// SPDX-License-Identifier: Apache-2.0
// QueryMoments: what the queries of one query head are like, for policies that guess at queries to come: their mean and
// covariance, taken before rope, so that they hold at any position.
#pragma once
#include <complex>
#include <cstddef>
#include <span>
#include <vector>

namespace lamina {

// How scores come from queries at the next positions: what rope does to a pair of channels, averaged over them, and
// what the product of query and key is multiplied by.
struct NextPositions {
  std::vector<std::complex<double>> turn{};  // [pair of channels]; channels beyond the pairs stay as they are
  bool interleaved = false;                  // pairs (2i, 2i + 1), else (i, i + pairs)
  double scale = 1;
};

class QueryMoments {
 public:
  explicit QueryMoments(int head_dim);

  // Queries before rope, `stride` floats from one to the next. Sums do not depend, to the bit, on how a prompt is cut.
  void add(const float* queries, std::size_t stride, std::size_t count);
  void expect(const NextPositions& next) { next_ = next; }

  std::size_t count() const { return count_; }
  std::size_t bytes() const {  // with a number for each pair of channels
    return (sums_.capacity() + products_.capacity() + dim_) * sizeof(double);
  }

  // Scores q . k * scale of the queries to come, as if they were normally distributed: their mean and covariance.
  struct Normal {
    std::vector<double> mean;        // [head_dim] times scale
    std::vector<double> covariance;  // [head_dim][head_dim] times scale squared
  };
  Normal next() const;  // zeros where no query was added

 private:
  void turn(double* x, std::size_t stride) const;

  std::size_t dim_, count_ = 0;
  std::vector<double> sums_;      // [head_dim]
  std::vector<double> products_;  // [head_dim][so far]: the lower triangle
  NextPositions next_;
};

// [row] the logarithm of the mean of exp(q . key) over normally distributed q, unless `covariance` is off: then the
// mean of q . key. keys: [rows][head_dim].
std::vector<double> expected_scores(const QueryMoments::Normal& q, std::span<const float> keys, bool covariance);

}  // namespace lamina
