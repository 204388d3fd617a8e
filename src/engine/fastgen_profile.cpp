// SPDX-License-Identifier: Apache-2.0
#include "engine/fastgen_profile.h"

#include <algorithm>
#include <cassert>

#include "base/error.h"
#include "base/stopwatch.h"
#include "engine/session.h"

namespace lamina {
namespace {

std::vector<std::string> policy_names(const FastGenPolicy& policy) {
  std::vector<std::string> names;
  std::string name;
  for (const FastGenPolicy::Parts& parts : policy.order()) {
    for (const FastGenPolicy::Part part : parts) {
      name += name.empty() ? "" : "+";
      name += FastGenPolicy::name(part);
    }
    names.push_back(name);
  }
  names.emplace_back("full");
  return names;
}

}  // namespace

FastGenProfile profile_fastgen(Model& model, ThreadPool& pool, const std::shared_ptr<const KvSpec>& spec,
                               std::span<const Token> prompt, int batch, int decode) {
  const auto* const policy = dynamic_cast<const FastGenPolicy*>(spec->slots.front().tokens.get());
  require(policy != nullptr, "\"{}\" has no fastgen term, there is nothing to profile", spec->text());
  require(spec->grid == 0, "\"{}\": FastGen profiles a whole prompt, grid cuts it", spec->text());
  FastGenProfile profile{.policies = policy_names(*policy), .heads = {}};
  const auto context = static_cast<Pos>(prompt.size()) + decode;
  {
    const auto dense = std::make_shared<const KvSpec>(KvSpec::parse("full", model.shape()));
    Session session(model, pool, {.spec = dense, .context = context, .batch = batch});
    const Stopwatch watch;
    session.prompt(prompt);
    profile.plain_prompt_seconds = watch.seconds();
  }
  Session session(model, pool, {.spec = spec, .context = context, .batch = batch});
  Stopwatch watch;
  session.prompt_but_its_end(prompt);
  profile.prompt_seconds = watch.seconds();
  const auto length = static_cast<Pos>(prompt.size());
  for (int slot = 0; slot < spec->layers.slots(); ++slot) {
    const KvSequence::Sets sets = session.kv().sets(SlotId{slot}, Phase::kPromptEnd);
    for (std::size_t head = 0; head < sets.rows.size(); ++head) {
      HeadProfile& found = profile.heads.emplace_back();
      found.slot = slot;
      found.head = static_cast<int>(head);
      found.recoveries = policy->recoveries(sets.rows[head], length);
      found.chosen = policy->choose(found.recoveries);
    }
  }
  watch = Stopwatch();
  session.kv().commit(Phase::kPromptEnd, 0, &pool);
  profile.choice_seconds = watch.seconds();
  profile.kept_fraction = session.kv().kept_fraction();
  auto next = profile.heads.begin();
  for (int slot = 0; slot < spec->layers.slots(); ++slot)
    for (const std::size_t rows : session.kv().live_rows(SlotId{slot})) (next++)->rows = rows;
  watch = Stopwatch();
  for (; profile.decoded < decode; ++profile.decoded) session.decode(prompt[prompt.size() - 1]);
  profile.decode_seconds = watch.seconds();
  return profile;
}

}  // namespace lamina
