// SPDX-License-Identifier: Apache-2.0
// What attention measures of a slot's rows is staged until the step is committed: it may be taken back like the rows.
#include <algorithm>
#include <cassert>

#include "kv/slot.h"

namespace lamina {
std::vector<Run*> Slot::measured_runs() {
  std::vector<Run*> all = runs();
  if (is_pair()) all.pop_back();
  return all;
}

void Slot::set_mass_columns(int lists, int columns) {
  for (Run* run : measured_runs()) run->set_mass_columns(lists, columns);
}

void Slot::reduce_mass(int readers, int kinds, int columns) {
  const int lists = readers * heads();
  if (columns == 1 && mass_columns() > lists)
    for (Run* run : measured_runs()) run->sum_mass(lists, kinds);
  else
    set_mass_columns(lists, columns);
}

std::span<float* const> Slot::stage(int reader, int readers, int columns, int tokens, bool apart) {
  const auto heads = static_cast<std::size_t>(this->heads());
  if (staged_.heads.empty()) {
    set_mass_columns(readers * this->heads(), columns);
    staged_.columns = columns;
    staged_.tokens = apart ? tokens : 1;
    staged_.apart = apart;
    for (const Run* run : measured_runs())
      for (const RowRange part : run->parts()) staged_.rows += part.padded();
    const std::size_t size = static_cast<std::size_t>(staged_.tokens * columns) * staged_.rows;
    staged_.sums.resize(static_cast<std::size_t>(readers) * heads);
    for (std::vector<float>& sums : staged_.sums) {
      sums.resize(size);
      staged_.heads.push_back(sums.data());
    }
    if (!apart) each_staged([](float& stored, float& staged) { staged = stored; });
  }
  return std::span(staged_.heads).subspan(static_cast<std::size_t>(reader) * heads, heads);
}

void Slot::apply_staged(int accepted) {
  if (staged_.heads.empty()) return;
  if (!staged_.apart) {
    each_staged([](float& stored, float& staged) { stored = staged; });
  } else {
    const std::size_t token = static_cast<std::size_t>(staged_.columns) * staged_.rows;
    for (int t = 0; t < accepted; ++t)
      each_staged(
          [at = static_cast<std::size_t>(t) * token](float& stored, float& staged) { stored += (&staged)[at]; });
  }
  unstage();
}

void Slot::unstage() { staged_ = {}; }

// Calls fn(a row's sum, the staged one of the first token) for all rows and sums.
template <class Fn>
void Slot::each_staged(Fn fn) {
  const auto columns = static_cast<std::size_t>(staged_.columns);
  std::size_t first = 0;
  for (Run* run : measured_runs()) {
    const std::span<float> mass = run->mass();
    const std::size_t all = staged_.sums.size() * columns;
    for (const RowRange part : run->parts()) {
      const std::size_t begin = part.first - run->first(), skipped = first + part.first % kTileRows;
      for (std::size_t list = 0; list < staged_.sums.size(); ++list)
        for (std::size_t c = 0; c < columns; ++c) {
          float* const sums = staged_.sums[list].data() + c * staged_.rows + skipped;
          float* const stored = mass.data() + begin * all + list * columns + c;
          const std::size_t rows = part.size();
          if (all == 1)  // mostly: the compiler makes vectors of it
            for (std::size_t row = 0; row < rows; ++row) fn(stored[row], sums[row]);
          else
            for (std::size_t row = 0; row < rows; ++row) fn(stored[row * all], sums[row]);
        }
      first += part.padded();
    }
  }
}

}  // namespace lamina
