// SPDX-License-Identifier: Apache-2.0
// FastGen (arXiv:2310.01801): each KV head gets the cheapest policy that recovers its attention, found once, at the end
// of the prompt. Policies are sets of rows that grow: each takes in what those before it in `order` keep.
//   special    control tokens (and the first token of the text)
//   punct      pieces of white space and ASCII punctuation
//   frequent   the rows that were given most attention: ceil(frequent * length so far) of them, which grows in decode
//   local      the newest rows: max(1, floor(recent * prompt)), which does not
//   full       everything: where no other recovers enough
//
//   fastgen(…)
//   recovery=0.95            what of the prompt's attention the kept rows must have, on average over queries
//   recent=0.3, frequent=0.3 of the prompt, and of the text
//   order=special/punct/frequent/local   which policies there are, cheapest first; frequent+local adds both at once
//   criterion=mass|l1        l1: the distance 2 (1 - mass) of attention must be at most 1 - recovery
//   group=mean|min           over the query heads that read a KV head
//   decode=literal|reselect  literal: a row that is neither special, punctuation nor local goes when there are more of
//                            them than ceil(frequent * length), the least attended first, never in its own step;
//                            reselect: each step keeps the most attended of all rows beside the protected ones
//   first=on|off             whether position 0 counts as special
//   blanks=on|off            whether white space alone counts as punctuation
#pragma once
#include <algorithm>
#include <string_view>

#include "kv/tokens/budget.h"
#include "kv/tokens/token_policy.h"

namespace lamina {

class FastGenPolicy final : public TokenPolicy {
 public:
  enum class Part : std::uint8_t { kSpecial, kPunct, kFrequent, kLocal };

  static std::string_view name(Part part);

  explicit FastGenPolicy(const Term& term);

  std::string text() const override { return text_; }
  Observe observes(const Ahead& ahead) const override;
  bool by_head() const override { return true; }
  bool request_bound() const override { return true; }
  bool reads_classes() const override { return true; }
  std::optional<Fade> fades(const Step& step, std::uint8_t tag) const override;
  void select(const Step& step, std::span<const HeadRows> sets, std::span<Keep> keep) const override;
  Pos most_rows(Pos length, Pos /*prompt_length*/) const override { return length; }

  using Parts = std::vector<Part>;
  // What each policy adds to those before it; after the last one comes "full".
  const std::vector<Parts>& order() const { return order_; }
  // What each policy of order() recovers of a prompt of `length` tokens.
  std::vector<double> recoveries(const HeadRows& rows, Pos length) const;
  // Which of order() the head gets; order().size(): full.
  std::size_t choose(const std::vector<double>& recoveries) const;

 private:
  Pos window(Pos prompt) const { return std::max(1, recent_.rows(prompt)); }
  bool has(Part part, std::size_t policies) const;  // among the first of order_
  // By class: what the first so many of order_ hold.
  Held held_classes(std::size_t policies) const;
  Keep most_attended(const HeadRows& rows, std::size_t count) const;
  double recovery(const HeadRows& rows, std::size_t policies, const std::vector<bool>& frequent) const;
  Held held(const Step& step, std::size_t policies) const;
  std::size_t budget(const Step& step, std::size_t policies) const;
  void keep_of_head(const Step& step, const HeadRows& rows, std::size_t policies, Keep& keep) const;

  std::string text_;
  double recovery_ = 0.95;
  Budget recent_, frequent_;
  std::vector<Parts> order_;
  bool l1_ = false, by_least_ = false, reselect_ = false, first_ = true, blanks_ = true;
};

}  // namespace lamina
