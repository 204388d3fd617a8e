// SPDX-License-Identifier: Apache-2.0
// Passes against token by token on the toy model: published figures, and what holds for every map of its four layers.
#include "toy_model.h"

#include <gtest/gtest.h>

#include <charconv>
#include <cmath>
#include <string>
#include <string_view>

namespace lamina::toy {
namespace {

// Half a unit of a figure's last printed digit: 0.005e-1 for "1.05e-1". A bare "0" stands for no difference at all, for
// which sums in another order would be forgiven.
double half_unit(std::string_view figure) {
  if (figure == "0") return 1e-15;
  const std::size_t exponent = std::min(figure.find('e'), figure.size());
  const std::size_t point = std::min(figure.find('.'), exponent - 1);
  const double unit = std::pow(10.0, -static_cast<double>(exponent - 1 - point));
  return 0.5 * unit * (exponent == figure.size() ? 1 : std::stod("1" + std::string(figure.substr(exponent))));
}

void expect_figure(double found, const std::string& figure) {
  EXPECT_NEAR(found, std::stod(figure), half_unit(figure) * (1 + 1e-9)) << "printed as " << figure;
}

void expect_figures(const Vector& found, const std::array<std::string, 2>& figures) {
  for (std::size_t i = 0; i < 2; ++i) expect_figure(found[i], figures[i]);
}

double distance(const Vector& a, const Vector& b) { return std::max(std::abs(a[0] - b[0]), std::abs(a[1] - b[1])); }

Model model(std::vector<int> target) { return {.target = std::move(target)}; }

std::vector<Model> every_model() {
  std::vector<Model> models;
  for (int map = 0; map < 4 * 4 * 4 * 4; ++map)
    for (const bool no_diagonal : {false, true}) {
      models.push_back(model({map / 64, map / 16 % 4, map / 4 % 4, map % 4}));
      models.back().no_diagonal = no_diagonal;
    }
  return models;
}

std::string text(const Model& model) {
  return testing::PrintToString(model.target) + (model.no_diagonal ? " without diagonal" : "");
}

TEST(ToyModel, HasThePublishedWeights) {
  const Matrix q = toy_layers()[0].q;
  expect_figures(q[0], {"0.0277", "-0.6485"});
  expect_figures(q[1], {"-0.3827", "0.0691"});
}

TEST(ToyModel, GivesThePublishedOutputsTokenByToken) {
  const State state = decode(model({0, 2, 2, 3}), inputs());
  ASSERT_EQ(state.out.size(), 5U);
  expect_figures(state.out[0], {"-0.857386", "-2.240557"});
  expect_figures(state.out[1], {"-0.105224", "0.834319"});
  expect_figures(state.out[2], {"-0.16739", "1.90046"});
  expect_figures(state.out[3], {"0.964198", "2.256468"});
  expect_figures(state.out[4], {"-0.245742", "-2.088377"});
  expect_figures(decode(model({3, 3, 3, 3}), inputs()).out[4], {"-0.301448", "-2.139323"});
  expect_figures(decode(model({1, 1, 3, 3}), inputs()).out[4], {"-0.237173", "-1.777774"});
  expect_figures(decode(model({0, 0, 2, 2}), inputs()).out[4], {"-0.206478", "-2.122134"});
}

struct PassErrors {
  std::vector<int> target;
  std::array<std::array<std::string, 5>, 5> errors;  // [times - 1][token]
};

TEST(ToyModel, PassesErrAsPublished) {
  const std::vector<PassErrors> tables = {{{0, 2, 2, 3},
                                           {{{"0", "1.05e-1", "1.93e-2", "3.57e-2", "3.25e-2"},
                                             {"0", "0", "8.12e-4", "6.03e-4", "2.40e-4"},
                                             {"0", "0", "0", "2.06e-6", "1.84e-6"},
                                             {"0", "0", "0", "0", "1.41e-9"},
                                             {"0", "0", "0", "0", "0"}}}},
                                          {{3, 3, 3, 3},
                                           {{{"0", "2.98", "1.31", ".472", ".085"},
                                             {"0", "0", ".988", ".605", ".479"},
                                             {"0", "0", "0", ".219", ".119"},
                                             {"0", "0", "0", "0", "5.38e-3"},
                                             {"0", "0", "0", "0", "0"}}}},
                                          {{1, 1, 3, 3},
                                           {{{"0", "2.31", ".448", ".658", ".377"},
                                             {"0", "0", ".251", ".263", ".362"},
                                             {"0", "0", "0", ".054", ".0395"},
                                             {"0", "0", "0", "0", "2.24e-3"},
                                             {"0", "0", "0", "0", "0"}}}}};
  for (const PassErrors& table : tables) {
    const Model toy = model(table.target);
    const State exact = decode(toy, inputs());
    for (int times = 1; times <= 5; ++times) {
      const State state = prefill(toy, inputs(), times);
      for (std::size_t token = 0; token < 5; ++token) {
        SCOPED_TRACE(text(toy) + ", passes " + std::to_string(times) + ", token " + std::to_string(token));
        expect_figure(distance(state.out[token], exact.out[token]),
                      table.errors[static_cast<std::size_t>(times - 1)][token]);
      }
    }
  }
}

using Seen = std::vector<std::vector<int>>;  // [token] positions

Seen seen_by(const State& state, std::size_t layer) {
  Seen seen;
  for (const auto& layers : state.seen) seen.push_back(layers[layer]);
  return seen;
}

TEST(ToyModel, UpwardReadersSeeTheTokensBefore) {
  const Seen before = {{}, {0}, {0, 1}, {0, 1, 2}}, all = {{0}, {0, 1}, {0, 1, 2}, {0, 1, 2, 3}};
  const std::vector<Vector> x = inputs();
  Model toy = model({0, 2, 2, 3});
  for (const State& state : {decode(toy, std::span(x).first(4)), prefill(toy, std::span(x).first(4), 9)}) {
    EXPECT_EQ(seen_by(state, 1), before);
    for (const std::size_t layer : {0, 2, 3}) EXPECT_EQ(seen_by(state, layer), all) << layer;
  }
  toy.no_diagonal = true;
  for (const State& state : {decode(toy, std::span(x).first(4)), prefill(toy, std::span(x).first(4), 9)})
    for (const std::size_t layer : {0, 1, 2, 3}) EXPECT_EQ(seen_by(state, layer), before) << layer;
}

// The decode of the authors' main branch: a row of zeros before the target's rows, of which the last is then cut off.
std::vector<Vector> faulty_decode(const Model& toy, const std::vector<Vector>& x) {
  std::vector<std::vector<Row>> rows(toy.layers.size());
  std::vector<Vector> out;
  for (int pos = 0; pos < static_cast<int>(x.size()); ++pos) {
    Vector hidden = x[static_cast<std::size_t>(pos)];
    for (std::size_t layer = 0; layer < toy.layers.size(); ++layer) {
      if (toy.computes_rows(layer)) rows[layer].push_back(row(toy.layers[layer], hidden, pos));
      std::vector<Row> read = rows[static_cast<std::size_t>(toy.target[layer])];
      if (!toy.sees_itself(layer)) {
        read.insert(read.begin(), Row{});
        read.pop_back();
      }
      hidden = output(toy.layers[layer], hidden, attend(query(toy.layers[layer], hidden, pos), read));
    }
    out.push_back(hidden);
  }
  return out;
}

TEST(ToyModel, ShowsTheFaultyDecode) {
  const Model toy = model({0, 2, 2, 3});
  const State exact = decode(toy, inputs());
  const std::vector<Vector> faulty = faulty_decode(toy, inputs());
  const std::array<std::string, 5> errors = {"0", "1.05e-1", "4.82e-2", "2.33e-2", "2.35e-2"};
  for (std::size_t token = 0; token < 5; ++token)
    expect_figure(distance(faulty[token], exact.out[token]), errors[token]);
}

void expect_same(const State& a, const State& b, std::size_t tokens, const std::string& what) {
  for (std::size_t token = 0; token < tokens; ++token)
    EXPECT_LT(distance(a.out[token], b.out[token]), 1e-15) << what << ", token " << token;
}

State start_with_rows(const Model& toy, double size) {
  State state = start(toy);
  for (std::size_t layer = 0; layer < toy.layers.size(); ++layer)
    for (int pos = 0; pos < 5; ++pos)
      state.rows[layer].push_back({pos, {size * (pos + 1), -size}, {-size, size * static_cast<double>(layer)}});
  return state;
}

// Theorem 1 of arXiv:2405.10637: n passes settle n tokens, whatever rows the first pass meets.
TEST(ToyModel, EveryPassSettlesAToken) {
  for (const Model& toy : every_model()) {
    const State exact = decode(toy, inputs());
    for (int times = 1; times <= 5; ++times) {
      const auto settled = static_cast<std::size_t>(times);
      const std::string what = text(toy) + ", passes " + std::to_string(times);
      expect_same(prefill(toy, inputs(), times), exact, settled, what);
      expect_same(prefill(toy, inputs(), times, start_with_rows(toy, 0.7)), exact, settled, what + " from any rows");
    }
  }
}

TEST(ToyModel, NoRowsAreAsGoodAsRowsOfZeros) {
  for (const Model& toy : every_model())
    for (int times = 1; times <= 4; ++times)
      expect_same(prefill(toy, inputs(), times), prefill(toy, inputs(), times, start_with_rows(toy, 0)), 5, text(toy));
}

TEST(ToyModel, OnePassIsExactUnlessTheMapIsCyclic) {
  for (const Model& toy : every_model()) {
    const State once = prefill(toy, inputs(), 1), exact = decode(toy, inputs());
    if (cyclic(toy.target)) {
      EXPECT_GT(distance(once.out[1], exact.out[1]), 1e-6) << text(toy);
    } else {
      expect_same(once, exact, 5, text(toy));
    }
  }
}

// A prompt in passes, the rest token by token or in a second chunk: as if all had come token by token.
TEST(ToyModel, GoesOnFromAPromptThatIsSettled) {
  const std::vector<Vector> x = inputs();
  for (const Model& toy : every_model()) {
    const State exact = decode(toy, x);
    const State prompt = prefill(toy, std::span(x).first(2), 2);
    expect_same(decode(toy, std::span(x).last(3), prompt), exact, 5, text(toy) + ", decode");
    expect_same(prefill(toy, std::span(x).last(3), 3, prompt), exact, 5, text(toy) + ", second chunk");
  }
}

TEST(ToyModel, LaterTokensChangeNothingEarlier) {
  for (const Model& toy : every_model())
    for (std::size_t changed = 0; changed < 5; ++changed) {
      std::vector<Vector> x = inputs();
      x[changed] = {2, -0.3};
      for (int times = 0; times <= 3; ++times) {  // 0: token by token
        const State before = times > 0 ? prefill(toy, inputs(), times) : decode(toy, inputs());
        const State after = times > 0 ? prefill(toy, x, times) : decode(toy, x);
        for (std::size_t token = 0; token < changed; ++token)
          EXPECT_EQ(after.out[token], before.out[token]) << text(toy) << ", passes " << times;
        EXPECT_NE(after.out[changed], before.out[changed]) << text(toy);
      }
    }
}

// Nothing to see is no attention, not an average and not NaN.
TEST(ToyModel, TheFirstTokenOfAnUpwardReaderDoesNotAttend) {
  for (const Model& toy : every_model()) {
    Model without = toy;
    bool changed = false;
    for (std::size_t layer = 0; layer < 4; ++layer) {
      if (toy.sees_itself(layer)) continue;
      without.layers[layer].o = {};
      changed = true;
    }
    const State with = decode(toy, inputs());
    EXPECT_EQ(with.out[0], decode(without, inputs()).out[0]) << text(toy);
    EXPECT_EQ(prefill(toy, inputs(), 2).out[0], with.out[0]) << text(toy);
    if (changed) {
      EXPECT_GT(distance(with.out[1], decode(without, inputs()).out[1]), 1e-6) << text(toy);
    }
  }
}

}  // namespace
}  // namespace lamina::toy
