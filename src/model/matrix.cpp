// SPDX-License-Identifier: Apache-2.0
#include "model/matrix.h"

#include <algorithm>
#include <atomic>
#include <cassert>

#include "base/error.h"
#include "model/pack.h"

namespace lamina {
namespace {

// Input rows that one task keeps beside a pair of panels in its second-level cache.
constexpr std::size_t kChunkBytes = std::size_t{256} << 10;
// A task for fewer bytes of weights than this costs more to hand out than it saves.
constexpr std::size_t kTaskBytes = std::size_t{48} << 10;
constexpr int kTasksPerThread = 8;
constexpr int kPanelGroup = 2;  // panels that a kernel walks along together

int divide_up(int a, int b) { return (a + b - 1) / b; }

// How a product is cut: `chunks` runs of input tiles times `groups` runs of panels, one task each.
struct Cut {
  int chunks;
  int panels;  // in a task
  int groups;
  int tasks() const { return chunks * groups; }
};

// The work of one panel with all tiles, in bytes of weights; the 2 stands for reading them from memory.
std::size_t panel_cost(const Matrix& w, int tiles) {
  return panel_bytes(w.format(), w.cols()) * static_cast<std::size_t>(2 + tiles) / 3;
}

Cut cut(const Matrix& w, const Activations& x, std::size_t task_cost) {
  const std::size_t tile_bytes = static_cast<std::size_t>(kTileInputs * 2) * static_cast<std::size_t>(x.cols());
  const int chunk_tiles = static_cast<int>(std::clamp<std::size_t>(kChunkBytes / tile_bytes, 1, 1 << 20));
  const int chunks = divide_up(x.tiles(), chunk_tiles);
  const std::size_t cost = panel_cost(w, divide_up(x.tiles(), chunks));
  const int groups_of_two = static_cast<int>(std::clamp<std::size_t>(task_cost / (kPanelGroup * cost), 1, 1 << 20));
  const int panels = std::min(w.panels(), kPanelGroup * groups_of_two);
  return {chunks, panels, divide_up(w.panels(), panels)};
}

void run_task(const Product& product, const Activations& x, const Cut& cut, int task) {
  const auto multiply = x.table().multiply[static_cast<int>(product.w->format())];
  const int chunk = task / cut.groups;
  const int first_tile = x.tiles() * chunk / cut.chunks;
  const int last_tile = x.tiles() * (chunk + 1) / cut.chunks;
  const int first_panel = task % cut.groups * cut.panels;
  const int last_panel = std::min(first_panel + cut.panels, product.w->panels());
  // One row streams all panels; several rows take turns with each group while that is in the first-level cache.
  const int group = x.rows() == 1 ? cut.panels : kPanelGroup;
  for (int panel = first_panel; panel < last_panel; panel += group) {
    Panels panels = product.w->panels(panel, std::min(panel + group, last_panel));
    for (int tile = first_tile; tile < last_tile; ++tile) {
      panels.cold = tile == first_tile;
      multiply(panels, x.tile(tile), product.y + x.first_row(tile) * product.stride + panel * kPanelRows,
               product.stride);
    }
  }
}

}  // namespace

std::size_t Matrix::packed_bytes(const TensorView& tensor) {
  Matrix m;
  m.format_ = packed_format(tensor);
  m.rows_ = tensor.rows();
  m.cols_ = tensor.cols();
  return m.bytes();
}

Matrix Matrix::pack(const TensorView& tensor, ThreadPool& pool, HugePages& memory) {
  Matrix m;
  m.format_ = packed_format(tensor);
  m.rows_ = tensor.rows();
  m.cols_ = tensor.cols();
  const std::size_t bytes = panel_bytes(m.format_, m.cols_);
  m.bytes_ = memory.allot(m.bytes());
  std::atomic<bool> finite{true};
  pool.parallel_for(m.panels(), [&](int panel, int) {
    std::byte* const to = m.bytes_.get() + static_cast<std::size_t>(panel) * bytes;
    pack_panel(tensor, m.format_, panel, to);
    if (!panel_is_finite(m.format_, m.cols_, to)) finite = false;
  });
  require(finite, "tensor \"{}\" holds weights that are not finite numbers", tensor.name);
  return m;
}

std::size_t Matrix::bytes() const { return static_cast<std::size_t>(panels()) * panel_bytes(format_, cols_); }

Panels Matrix::panels(int first, int last) const {
  return {
      .bytes = bytes_.get() + static_cast<std::size_t>(first) * panel_bytes(format_, cols_),
      .panels = last - first,
      .steps = static_cast<int>(is_integer(format_) ? cols_ / kBlockCols : cols_),
      .rows = static_cast<int>(std::min<std::int64_t>(rows_, std::int64_t{last} * kPanelRows)) - first * kPanelRows};
}

// A tile's integers, of *this or const *this: to be written or read.
template <class Tile, class Self>
Tile Activations::integers(Self& self, int tile) {
  const int first = self.first_row(tile);
  const std::ptrdiff_t at = std::ptrdiff_t{first} * self.blocks_;
  Tile view;
  view.rows = self.first_row(tile + 1) - first;
  view.fine = self.inputs_[first] == Inputs::kFine;
  if (self.cols_ % kBlockCols != 0) return view;  // there are none
  view.codes = self.codes_.data() + at * 2 * kBlockCols;
  view.scales = self.scales_.data() + at;
  view.sums = self.sums_.data() + at;
  view.offsets = self.offsets_.data() + at;
  view.low_offsets = self.low_offsets_.data() + at;
  view.outliers = self.outliers_.data() + std::ptrdiff_t{tile} * (1 + self.blocks_);
  return view;
}

void Activations::set(const float* x, std::span<const Inputs> inputs, int cols, ThreadPool& pool) {
  assert(!inputs.empty() && cols > 0);
  x_ = x;
  inputs_ = inputs;
  rows_ = static_cast<int>(inputs.size());
  cols_ = cols;
  blocks_ = cols / kBlockCols;
  has_float_tiles_ = false;
  cut();
  if (cols % kBlockCols != 0) return;  // only float weights have such a shape
  const std::size_t blocks = inputs.size() * static_cast<std::size_t>(blocks_);
  if (scales_.size() < blocks) {
    codes_.resize(blocks * 2 * kBlockCols);
    scales_.resize(blocks);
    sums_.resize(blocks);
    offsets_.resize(blocks);
    low_offsets_.resize(blocks);
  }
  const std::size_t outliers = static_cast<std::size_t>(tiles()) * static_cast<std::size_t>(1 + blocks_);
  if (outliers_.size() < outliers) outliers_.resize(outliers);
  pool.parallel_for(tiles(), [&](int tile, int) {
    kernels_->quantize(x_ + std::ptrdiff_t{first_row(tile)} * cols_, cols_, blocks_,
                       integers<QuantizedTile>(*this, tile));
  });
}

void Activations::cut() {
  first_rows_ = {0};
  for (int first = 0; first < rows_;) {
    const int rows = static_cast<int>(std::ranges::find_if(inputs_.subspan(static_cast<std::size_t>(first)),
                                                           [&](Inputs kind) { return kind != inputs_[first]; }) -
                                      inputs_.begin()) -
                     first;
    const int tiles = divide_up(rows, kTileInputs);
    for (int tile = 1; tile <= tiles; ++tile)
      first_rows_.push_back(first + static_cast<int>(std::int64_t{rows} * tile / tiles));
    first += rows;
  }
}

double Activations::digits() const {
  double digits = 0;
  for (int t = 0; t < tiles(); ++t) {
    const InputTile tile = this->tile(t);
    digits += tile.rows * (tile.fine ? 2.0 : 1 + static_cast<double>(*tile.outliers) / blocks_);
  }
  return digits / rows_;
}

void Activations::make_float_tiles(ThreadPool& pool) {
  if (has_float_tiles_) return;
  has_float_tiles_ = true;
  values_.resize(std::max(values_.size(), static_cast<std::size_t>(rows_) * static_cast<std::size_t>(cols_)));
  pool.parallel_for(tiles(), [&](int tile, int) {
    const int first = first_row(tile);
    const int rows = first_row(tile + 1) - first;
    const float* from = x_ + std::ptrdiff_t{first} * cols_;
    float* to = values_.data() + std::ptrdiff_t{first} * cols_;
    for (int row = 0; row < rows; ++row)
      for (int col = 0; col < cols_; ++col) to[col * rows + row] = from[std::ptrdiff_t{row} * cols_ + col];
  });
}

InputTile Activations::tile(int tile) const {
  auto view = integers<InputTile>(*this, tile);
  view.values = values_.data() + (has_float_tiles_ ? std::ptrdiff_t{first_row(tile)} * cols_ : 0);
  return view;
}

void matmul(ThreadPool& pool, Activations& x, std::span<const Product> products) {
  std::size_t cost = 0;
  for (const Product& product : products) {
    assert(product.w->cols() == x.cols() && product.stride >= product.w->rows());
    if (!is_integer(product.w->format())) x.make_float_tiles(pool);
    cost += static_cast<std::size_t>(product.w->panels()) * panel_cost(*product.w, x.tiles());
  }
  const std::size_t task_cost = std::max(kTaskBytes, cost / static_cast<std::size_t>(kTasksPerThread * pool.threads()));
  int tasks = 0;
  for (const Product& product : products) tasks += cut(*product.w, x, task_cost).tasks();
  pool.parallel_for(tasks, [&](int task, int) {
    for (const Product& product : products) {
      const Cut c = cut(*product.w, x, task_cost);
      if (task < c.tasks()) return run_task(product, x, c, task);
      task -= c.tasks();
    }
  });
}

}  // namespace lamina
