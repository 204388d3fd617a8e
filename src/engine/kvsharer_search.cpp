// SPDX-License-Identifier: Apache-2.0
#include "engine/kvsharer_search.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/error.h"
#include "engine/map_trial.h"

namespace lamina {
namespace {

using Sentences = std::vector<std::vector<Token>>;

void validate(const KvSharerOptions& options, const KvShape& shape, const Sentences& sentences) {
  require(shape.targets.empty(), "this model was trained to share rows between layers: there is nothing to search");
  require(options.share >= 1 && options.share < shape.layers, "{} layers to share, expected 1 to {} of the model's {}",
          options.share, shape.layers - 1, shape.layers);
  require(!sentences.empty(), "no sentences to search on");
  require(options.candidates >= 1 && options.width >= 1 && options.kl_sentences >= 1,
          "{} candidates, a beam of {} and {} sentences, expected at least 1 of each", options.candidates,
          options.width, options.kl_sentences);
  const std::size_t tokens = sentences.front().size(), judged = options.kv.empty() ? tokens : tokens - tokens / 2;
  require(judged < tokens || options.kv.empty(),
          "sentences of 1 token cannot be halved; under a KV spec expected at least 2");
  const std::size_t of_kl = judged * std::min(sentences.size(), static_cast<std::size_t>(options.kl_sentences));
  require(options.objective == KvSharerObjective::kCosine || of_kl >= OutputKl::kKlStride,
          "{} tokens are judged, KL takes one in {}", of_kl, OutputKl::kKlStride);
}

// The other axes. Near neighbours in the ranking differ by less than float16 tells apart: dense rows are float32.
KvSpec other_axes(const KvSharerOptions& options, const KvShape& shape) {
  KvSpec spec = KvSpec::parse(options.kv.empty() ? "f32" : options.kv, shape);
  require(spec.layers == own_layers(shape).map, "\"{}\" has a layers term, which is what is searched for", options.kv);
  return spec;
}

// What layers are ranked by where a token policy leaves them other rows.
std::vector<LayerRows> dense_rows(Model& model, ThreadPool& pool, const Sentences& sentences, MapTrial::Feed feed) {
  return MapTrial(model, pool, sentences, KvSpec::parse("f32", model.shape()), feed).mean_rows();
}

MapChoice choose(const std::vector<LayerPair>& ranking, int layers, const KvSharerOptions& options,
                 const MapJudge& judge) {
  if (options.objective == KvSharerObjective::kCosine)
    return choose_greedily(ranking, layers, options.share, options.threshold, judge);
  if (options.objective == KvSharerObjective::kKl)
    return choose_least(ranking, layers, options.share, options.candidates, judge);
  return choose_by_beam(ranking, layers, options.share, options.width, options.candidates, judge);
}

}  // namespace

KvSharerSearch search_kvsharer(Model& model, ThreadPool& pool, const Sentences& sentences,
                               const KvSharerOptions& options, const OnTrial& on_trial) {
  const KvShape shape = model.shape();
  validate(options, shape, sentences);
  const KvSpec spec = other_axes(options, shape);
  const auto feed = options.kv.empty() ? MapTrial::Feed::kPrompt : MapTrial::Feed::kHalves;
  MapTrial all(model, pool, sentences, spec, feed);
  const std::vector<float> base = all.run(own_targets(shape));
  KvSharerSearch search;
  search.options = options;
  if (!options.kv.empty()) search.options.kv = spec.text();
  search.ranking =
      rank_pairs(spec.prunes() ? dense_rows(model, pool, sentences, feed) : all.mean_rows(), shape, options.ranking);

  double last = std::numeric_limits<double>::quiet_NaN();
  MapJudge judge;
  judge.on_trial = [&](const LayerTrial& trial, int shared) { on_trial(trial, shared, last); };
  if (options.objective == KvSharerObjective::kCosine) {
    judge.score = [&](const std::vector<int>& target) {
      return last = mean_cosine(base, all.run(target), all.sentences());
    };
    judge.adopt = [&](const std::vector<int>& target) { all.adopt(target); };
    search.choice = choose(search.ranking, shape.layers, options, judge);
  } else {
    const auto few = std::min(sentences.size(), static_cast<std::size_t>(options.kl_sentences));
    MapTrial some(model, pool, {sentences.begin(), sentences.begin() + static_cast<std::ptrdiff_t>(few)}, spec, feed);
    OutputKl kl(model, pool, some.run(own_targets(shape)));
    judge.score = [&](const std::vector<int>& target) { return last = kl(some.run(target)); };
    judge.adopt = [&](const std::vector<int>& target) { some.adopt(target); };
    search.choice = choose(search.ranking, shape.layers, options, judge);
  }
  search.cosine = mean_cosine(base, all.run(search.choice.target), all.sentences());
  return search;
}

}  // namespace lamina
