// SPDX-License-Identifier: Apache-2.0
// FastGen in decode: what grows and what goes.
#include "base/error.h"
#include "kv/fastgen_head.h"

namespace lamina::testing {
namespace {

// T14: by how much 40 tokens of one kind make the cache grow.
TEST(FastGen, GrowsInDecodeAsItsPolicySays) {
  const auto grown = [](std::string_view text, TokenClass kind) {
    const FastGenPolicy tokens = policy(text);
    Head head = Head::prompt(tokens, {kMap}, kClasses);
    head.select(tokens, prompt_end(6));
    const std::size_t before = head.pos.size();
    for (Pos at = 6; at < 46; ++at) {
      const std::size_t rows = head.pos.size() + 1;
      head.append(at, kind, std::vector<double>(rows, 1. / static_cast<double>(rows)));
      EXPECT_TRUE(head.held().contains(at));  // in its own step a token sees itself, whether it is stored or not
      head.select(tokens, decode(at + 1, 6));
    }
    return head.pos.size() - before;
  };
  EXPECT_EQ(grown("fastgen(recovery=0.65)", kWord), 0U);
  EXPECT_EQ(grown("fastgen(recovery=0.8)", kWord), 0U);
  EXPECT_EQ(grown("fastgen(recovery=0.98)", kWord), 40U);
  EXPECT_EQ(grown("fastgen(recovery=0.9)", kWord), 13U);   // ceil(.3 * 46) = 14 words; there was one
  EXPECT_EQ(grown("fastgen(recovery=0.95)", kWord), 14U);  // and the newest
  EXPECT_EQ(grown("fastgen(recovery=0.65)", kPunct), 0U);
  EXPECT_EQ(grown("fastgen(recovery=0.8)", kPunct), 40U);
  EXPECT_EQ(grown("fastgen(recovery=0.8)", kBlank), 40U);
  EXPECT_EQ(grown("fastgen(recovery=0.8,blanks=off)", kBlank), 0U);
  EXPECT_EQ(grown("fastgen(recovery=0.65)", kSpecial), 40U);
}

TEST(FastGen, UnprotectedRowsStayWithinTheirShareOfTheText) {
  const FastGenPolicy tokens = policy("fastgen(recovery=0.9)");
  Head head = Head::prompt(tokens, {kMap}, kClasses);
  head.select(tokens, prompt_end(6));
  std::ptrdiff_t words = 0, most = 0;
  for (Pos at = 6; at < 200; ++at) {
    head.append(at, at % 7 == 0 ? kPunct : kWord, std::vector<double>(head.pos.size() + 1, .1));
    head.select(tokens, decode(at + 1, 6));
    words =
        std::ranges::count_if(head.pos, [&](Pos pos) { return head.classes[static_cast<std::size_t>(pos)] == kWord; });
    most = (3 * (at + 1) + 9) / 10;
    ASSERT_LE(words, most) << at;
  }
  EXPECT_EQ(words, most);  // once there were enough of them
}

// A new row is not judged in its own step, however little it was given; in the next it is.
TEST(FastGen, ANewRowOutlivesItsOwnStep) {
  const FastGenPolicy tokens = policy("fastgen(order=frequent,recovery=0)");
  Head head = Head::prompt(tokens, {kMap}, Classes(6, kWord));
  head.select(tokens, prompt_end(6));
  EXPECT_EQ(head.held(), (Positions{0, 1}));
  head.append(6, kWord, {.9, .1, 0});
  head.select(tokens, decode(7, 6));  // ceil(2.1) = 3
  EXPECT_EQ(head.held(), (Positions{0, 1, 6}));
  head.append(7, kWord, {.9, .05, .05, 0});
  head.select(tokens, decode(8, 6));
  EXPECT_EQ(head.held(), (Positions{0, 1, 7}));
  Head other = Head::prompt(policy("fastgen(order=frequent,recovery=0,decode=reselect)"), {kMap}, Classes(6, kWord));
  const FastGenPolicy reselect = policy("fastgen(order=frequent,recovery=0,decode=reselect)");
  other.select(reselect, prompt_end(6));
  other.append(6, kWord, {.9, .1, 0});
  other.select(reselect, decode(7, 6));
  other.append(7, kWord, {.9, .05, .05, 0});
  other.select(reselect, decode(8, 6));
  EXPECT_EQ(other.held(), (Positions{0, 1, 6}));  // the most attended, new or not
}

struct Variant {
  const char* spec;
  std::vector<std::string> order = {"special", "punct", "frequent", "local"};
  double recent = .3, frequent = .3;
  bool reselect = false;
};

TEST(FastGen, EqualsASlowRestatementInDecode) {
  const std::vector<Variant> variants = {
      {"fastgen(recovery={}"},
      {.spec = "fastgen(recovery={},decode=reselect", .reselect = true},
      {.spec = "fastgen(recovery={},recent=0.05,frequent=0.1", .recent = .05, .frequent = .1},
      {.spec = "fastgen(recovery={},order=frequent/local/special", .order = {"frequent", "local", "special"}},
      {.spec = "fastgen(recovery={},order=special/local,recent=0.2", .order = {"special", "local"}, .recent = .2}};
  std::mt19937 random(23);
  std::set<std::size_t> policies;
  for (const Variant& variant : variants) {
    for (int round = 0; round < 40; ++round) {
      const FastGenPolicy tokens = policy(fmt::format(fmt::runtime(variant.spec), .02 * round + .2) + ")");
      const Pos prompt = 8 + round;
      const Classes classes = random_classes(random, static_cast<std::size_t>(prompt));
      const std::vector<Map> maps = {random_map(random, classes.size()), random_map(random, classes.size())};
      Head head = Head::prompt(tokens, maps, classes);
      const std::size_t chosen = tokens.choose(tokens.recoveries(head.rows(), prompt));
      policies.insert(chosen);
      Slow slow{.parts = {variant.order.begin(), variant.order.begin() + static_cast<std::ptrdiff_t>(std::min(
                                                                             chosen + 1, variant.order.size()))},
                .recent = variant.recent,
                .frequent = variant.frequent,
                .reselect = variant.reselect};
      if (chosen == variant.order.size()) slow.parts = {"full"};
      Positions expected = slow.keep(head, prompt, prompt, true);
      head.select(tokens, prompt_end(prompt));
      ASSERT_EQ(head.held(), expected) << variant.spec << ", round " << round;
      const std::uint8_t tag = head.tag;
      for (Pos at = prompt; at < prompt + 30; ++at) {
        head.append(at, random_classes(random, 1)[0], random_map(random, head.pos.size() + 1).back());
        expected = slow.keep(head, at + 1, prompt, false);
        head.select(tokens, decode(at + 1, prompt));
        ASSERT_EQ(head.held(), expected) << variant.spec << ", round " << round << ", position " << at;
        ASSERT_EQ(head.tag, tag);  // found once
      }
    }
  }
  EXPECT_EQ(policies.size(), 5U);  // so every one was met
}

}  // namespace
}  // namespace lamina::testing
