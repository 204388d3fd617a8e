// SPDX-License-Identifier: Apache-2.0
// Weight matrices packed for the kernels, input rows, and their products: y = W x. What each GGUF type becomes is in
// model/pack.h. An element of y is bitwise the same whatever the other rows, the products beside it and the threads.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/huge_pages.h"
#include "base/thread_pool.h"
#include "kernels/kernels.h"
#include "model/gguf.h"

namespace lamina {

class Matrix {
 public:
  Matrix() = default;
  // Error if a weight is not a finite number.
  static Matrix pack(const TensorView& tensor, ThreadPool& pool, HugePages& memory);

  static std::size_t packed_bytes(const TensorView& tensor);

  WeightFormat format() const { return format_; }
  std::int64_t rows() const { return rows_; }
  std::int64_t cols() const { return cols_; }
  std::size_t bytes() const;
  int panels() const { return static_cast<int>((rows_ + kPanelRows - 1) / kPanelRows); }
  Panels panels(int first, int last) const;  // [first, last)

 private:
  WeightFormat format_ = WeightFormat::kF32;
  std::int64_t rows_ = 0;
  std::int64_t cols_ = 0;
  std::shared_ptr<std::byte> bytes_;  // [panel][panel_bytes]
};

// How exact the integers are that rows of input become: 15 bits, or 8 where nothing stands out.
enum class Inputs : std::uint8_t { kFine, kCoarse };

// The input rows of one or more products, as tiles of up to kTileInputs rows. For weights in an integer format the
// input is integers with a scale for each 32 columns of a row; for the float formats it stays float32.
class Activations {
 public:
  Activations() : kernels_(&kernels(chosen_isa())) {}
  explicit Activations(const Kernels& kernels) : kernels_(&kernels) {}

  // x is [rows][cols] and must stay as it is until the products are done; `inputs` has a value for each row.
  void set(const float* x, std::span<const Inputs> inputs, int cols, ThreadPool& pool);

  int rows() const { return rows_; }
  int cols() const { return cols_; }
  double digits() const;  // on average
  const Kernels& table() const { return *kernels_; }

  int tiles() const { return static_cast<int>(first_rows_.size()) - 1; }
  int first_row(int tile) const { return first_rows_[static_cast<std::size_t>(tile)]; }
  InputTile tile(int tile) const;
  void make_float_tiles(ThreadPool& pool);  // matmul calls it for the float formats

 private:
  void cut();
  template <class Tile, class Self>
  static Tile integers(Self& self, int tile);

  const Kernels* kernels_;
  const float* x_ = nullptr;
  int rows_ = 0;
  int cols_ = 0;
  int blocks_ = 0;
  bool has_float_tiles_ = false;
  std::span<const Inputs> inputs_;  // [row]
  std::vector<float> values_;       // [tile][column][row of the tile]
  std::vector<int> first_rows_;     // [tiles + 1] tiles are of one kind of row, and of equal size or one row less
  std::vector<std::int8_t> codes_;  // [tile][block][row of the tile][2][32]
  std::vector<float> scales_;       // [tile][block][row of the tile], as are the next two
  std::vector<float> sums_;
  std::vector<std::int32_t> offsets_, low_offsets_;
  std::vector<std::int32_t> outliers_;  // [tile][1 + blocks]
};

struct Product {
  const Matrix* w = nullptr;
  float* y = nullptr;  // y[input row * stride + row of w]
  std::ptrdiff_t stride = 0;
};

// All products of one input in one parallel loop.
void matmul(ThreadPool& pool, Activations& x, std::span<const Product> products);

}  // namespace lamina
