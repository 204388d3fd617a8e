// SPDX-License-Identifier: Apache-2.0
// What can be seen of a model itself: which layers are alike, where its heads look, what FastGen and MiniCache would
// keep. A model that a method is not for says why.
#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "engine/fastgen_profile.h"
#include "engine/map_trial.h"
#include "engine/suite_parts.h"
#include "kv/layers/kvsharer_ranking.h"

namespace lamina {
namespace {

using Json = nlohmann::ordered_json;
using Grid = std::vector<std::vector<double>>;

constexpr int kBins = 64;     // of a prompt's positions
constexpr Pos kQueries = 64;  // the last ones of a prompt
constexpr Pos kFirst = 4;     // rows at the beginning, where much attention ends for want of a better place

std::size_t bin_of(Pos pos, Pos length) {
  return static_cast<std::size_t>(std::int64_t{pos} * kBins / std::max(length, 1));
}

// The mean over tokens of the cosine between two layers' rows, each [token][width].
double mean_cosine(std::span<const float> a, std::span<const float> b, std::size_t width) {
  double sum = 0;
  for (std::size_t row = 0; row < a.size(); row += width) {
    double ab = 0, aa = 0, bb = 0;
    for (std::size_t i = row; i < row + width; ++i) {
      ab += double{a[i]} * double{b[i]};
      aa += double{a[i]} * double{a[i]};
      bb += double{b[i]} * double{b[i]};
    }
    if (aa > 0 && bb > 0) sum += ab / std::sqrt(aa * bb);
  }
  return sum * static_cast<double>(width) / static_cast<double>(a.size());
}

Outcome layers_of(const Subject& subject, const std::vector<Tokens>& sentences) {
  const KvShape shape = subject.model.shape();
  if (!shape.targets.empty())
    return {.values = {{"unavailable", "the model was trained to share rows between layers"}}};
  const MapTrial trial(subject.model, subject.pool, sentences, KvSpec::parse("f32", shape), MapTrial::Feed::kPrompt);
  subject.on_step();
  const auto layers = static_cast<std::size_t>(shape.layers);
  Grid distances(layers, std::vector<double>(layers, 0));
  for (const LayerPair& pair : rank_pairs(trial.mean_rows(), shape, {.across_kinds = true})) {
    const auto layer = static_cast<std::size_t>(pair.layer), source = static_cast<std::size_t>(pair.source);
    distances[layer][source] = distances[source][layer] = pair.distance;
  }
  std::vector<double> keys, values;
  const StepTrace& trace = trial.traces().front();  // a prompt without a grid is one step
  const auto width = static_cast<std::size_t>(shape.kv_heads) * static_cast<std::size_t>(shape.head_dim);
  for (std::size_t layer = 0; layer + 1 < layers; ++layer) {
    keys.push_back(mean_cosine(trace.layers[layer].k, trace.layers[layer + 1].k, width));
    values.push_back(mean_cosine(trace.layers[layer].v, trace.layers[layer + 1].v, width));
  }
  return {.values = {{"sentences", sentences.size()},
                     {"tokens", sentences.front().size()},
                     {"distances", distances},
                     {"key_cosines", keys},
                     {"value_cosines", values}}};
}

Outcome fastgen_of(const Subject& subject, const std::shared_ptr<const KvSpec>& spec, const Tokens& prompt) {
  const FastGenProfile profile = profile_fastgen(subject.model, subject.pool, spec, prompt, subject.batch, 0);
  subject.on_step();
  std::vector<std::vector<std::size_t>> chosen, rows;
  for (const HeadProfile& head : profile.heads) {
    if (head.head == 0) chosen.emplace_back(), rows.emplace_back();
    chosen.back().push_back(head.chosen);
    rows.back().push_back(head.rows);
  }
  return {.values = {{"tokens", prompt.size()},
                     {"policies", profile.policies},
                     {"kept_fraction", profile.kept_fraction},
                     {"chosen", chosen},
                     {"rows", rows}}};
}

Session after(const Subject& subject, const std::shared_ptr<const KvSpec>& spec, const Tokens& prompt) {
  Session session(subject.model, subject.pool,
                  {.spec = spec, .context = static_cast<Pos>(prompt.size()), .batch = subject.batch});
  session.prompt(prompt);
  subject.on_step();
  return session;
}

// Of the rows that a layer of a pair reads, by position: the share without a gain of their own, which are not merged.
std::vector<double> apart_by_position(std::span<const Segment> rows, Plane Segment::*gains, Pos length) {
  std::vector<double> apart(kBins, 0), all(kBins, 0);
  for (const Segment& segment : rows)
    for (std::uint32_t row = 0; row < segment.rows(); ++row) {
      const std::size_t bin = bin_of(segment.pos[row], length);
      all[bin] += 1;
      if (!(segment.*gains)) apart[bin] += 1;
    }
  for (std::size_t bin = 0; bin < apart.size(); ++bin)
    if (all[bin] > 0) apart[bin] /= all[bin];
  return apart;
}

Outcome minicache_of(const Subject& subject, const std::shared_ptr<const KvSpec>& spec, const Tokens& prompt) {
  Session session = after(subject, spec, prompt);
  const auto length = static_cast<Pos>(prompt.size());
  Grid keys, values;
  for (const auto& [lower, deeper] : spec->minicache.pairs) {
    const std::span<const Segment> rows = session.kv().segments(LayerId{lower})[0];
    keys.push_back(apart_by_position(rows, &Segment::k_gains, length));
    values.push_back(apart_by_position(rows, &Segment::v_gains, length));
  }
  const MergeCount merged = session.kv().merged();
  return {.values = {{"tokens", length},
                     {"pairs", spec->minicache.pairs},
                     {"apart_fraction", merged.apart_fraction()},
                     {"keys", keys},
                     {"values", values}}};
}

// Shares of one query head's attention.
struct Looks {
  std::vector<double> first, between, local;  // [query head]
  std::vector<double> by_position = std::vector<double>(kBins, 0);
};

Looks looks_of(const KvSequence::Sets& sets, Pos length) {
  Looks looks;
  for (const HeadRows& rows : sets.rows)
    for (int head = 0; head < rows.columns / rows.kinds; ++head) {
      double first = 0, local = 0, all = 0;
      std::vector<double> bins(kBins, 0);
      for (std::size_t row = 0; row < rows.pos.size(); ++row) {
        const double mass = rows.part(row, head, 0);
        const Pos pos = rows.pos[row];
        all += mass;
        bins[bin_of(pos, length)] += mass;
        if (pos < kFirst)
          first += mass;
        else if (pos >= length - kQueries)
          local += mass;
      }
      looks.first.push_back(first / all);
      looks.local.push_back(local / all);
      looks.between.push_back((all - first - local) / all);
      for (std::size_t bin = 0; bin < bins.size(); ++bin) looks.by_position[bin] += bins[bin] / all;
    }
  for (double& bin : looks.by_position) bin /= static_cast<double>(looks.first.size());
  return looks;
}

Outcome attention_of(const Subject& subject, const std::shared_ptr<const KvSpec>& spec, const Tokens& prompt) {
  Session session(subject.model, subject.pool,
                  {.spec = spec, .context = static_cast<Pos>(prompt.size()), .batch = subject.batch});
  session.prompt_but_its_end(prompt);
  subject.on_step();
  Grid first, between, local, by_position;
  for (int slot = 0; slot < spec->layers.slots(); ++slot) {
    Looks looks = looks_of(session.kv().sets(SlotId{slot}, Phase::kPromptEnd), static_cast<Pos>(prompt.size()));
    first.push_back(std::move(looks.first));
    between.push_back(std::move(looks.between));
    local.push_back(std::move(looks.local));
    by_position.push_back(std::move(looks.by_position));
  }
  return {.values = {{"tokens", prompt.size()},
                     {"queries", kQueries},
                     {"first_rows", kFirst},
                     {"first", first},
                     {"between", between},
                     {"local", local},
                     {"by_position", by_position}}};
}

template <class Fn>
Measurement of_model(const std::string& name, const std::string& spec, double tokens, Fn outcome) {
  return {.name = "model." + name,
          .own_spec = spec,
          .prompt_tokens = tokens,
          .run = [outcome](const Subject& subject, Specs specs) {
            return std::vector<Outcome>{outcome(subject, specs.front())};
          }};
}

}  // namespace

Measurement layers_measurement(std::vector<Tokens> sentences) {
  const auto tokens = static_cast<double>(sentences.size() * sentences.front().size());
  return of_model("layers", "full", tokens, [sentences = std::move(sentences)](const Subject& subject, const auto&) {
    return layers_of(subject, sentences);
  });
}

Measurement fastgen_measurement(Tokens prompt) {
  const auto tokens = static_cast<double>(prompt.size());
  return of_model("fastgen", "fastgen", 2 * tokens,
                  [prompt = std::move(prompt)](const Subject& subject, const auto& spec) {
                    return fastgen_of(subject, spec, prompt);
                  });
}

Measurement minicache_measurement(Tokens prompt) {
  const auto tokens = static_cast<double>(prompt.size());
  return of_model("minicache", "minicache", tokens,
                  [prompt = std::move(prompt)](const Subject& subject, const auto& spec) {
                    return minicache_of(subject, spec, prompt);
                  });
}

Measurement attention_measurement(Tokens prompt) {
  const auto tokens = static_cast<double>(prompt.size());
  // Observes the last queries of a prompt, head by head; nothing is dropped before its end.
  return of_model("attention", fmt::format("snapkv(window={})", kQueries), tokens,
                  [prompt = std::move(prompt)](const Subject& subject, const auto& spec) {
                    return attention_of(subject, spec, prompt);
                  });
}

}  // namespace lamina
