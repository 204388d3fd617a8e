// SPDX-License-Identifier: Apache-2.0
// KIVI (arXiv:2402.02750): keys are written with scales by channel, for groups of consecutive tokens, and values with
// scales by token; both asymmetric. The newest rows stay exact, so that decoded keys wait until they are a whole group.
//   kivi4(…), kivi2(…)    4 or 2 bits
//   group=32|64|128       tokens that share a scale and a minimum of each channel of the keys: 32 / group bits a number
//   residual=128          rows that stay exact, a multiple of the group
//   bookkeeping=block     keys are encoded when `residual` exact ones are there: 0 to residual - 1 of them are exact
//   bookkeeping=window    the newest `residual` keys are exact always
// Keys that share scales cannot move: a token policy must select before rows are encoded, or drop the oldest.
// Values are grouped by 32 channels (1 bit a number). Of those the newest `residual` stay exact in either case.
#pragma once
#include <cstdint>
#include <optional>
#include <string>

#include "kv/bits/format.h"

namespace lamina {

struct Term;

struct Kivi {
  int bits = 0;  // 4 or 2; 0: another format
  std::uint32_t group = kScaleGroup, residual = 128;
  bool window = false;

  // Null where the term is another one. Error for arguments out of range.
  static std::optional<Kivi> parse(const Term& term);
  std::string text() const;  // canonical, defaults omitted
  explicit operator bool() const { return bits != 0; }
  Format k() const { return bits == 4 ? Format::kChannel4 : Format::kChannel2; }
  Format v() const { return bits == 4 ? Format::kAsym4 : Format::kAsym2; }
  // How many of so many rows are encoded, the oldest first.
  std::uint32_t encoded_keys(std::uint32_t rows) const;
  std::uint32_t encoded_values(std::uint32_t rows) const { return rows - (rows < residual ? rows : residual); }
};

}  // namespace lamina
