// SPDX-License-Identifier: Apache-2.0
// Specs that are compared on one prompt mostly differ in what they do when it ends: then it is computed once for all of
// them (Session::prompt), to the same bits as for each alone.
#pragma once
#include <memory>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "engine/session.h"
#include "kv/spec.h"
#include "model/forward.h"

namespace lamina {

using Specs = std::span<const std::shared_ptr<const KvSpec>>;

// The specs, and the dense cache's: one of them if it is among them, else the last.
struct WithDense {
  WithDense(Specs given, const KvShape& shape);
  std::vector<std::shared_ptr<const KvSpec>> specs;
  std::size_t dense = 0;
};

// [group] indices of the specs that share a prompt of `length` tokens, ascending: as many in a group as hold it, each
// in f16, in a GiB.
std::vector<std::vector<std::size_t>> shared_prompts(Specs specs, const KvShape& shape, Pos length);

struct Prompted {
  std::vector<Session> sessions;  // [member of the group]
  std::vector<float> logits;      // after the prompt's last token, of all of them; empty if `progress` stopped it
};
// Sessions of one group of the specs. Errors as of Session.
Prompted prompt_all(Model& model, ThreadPool& pool, Specs specs, std::span<const std::size_t> group, Pos context,
                    int batch, std::span<const Token> tokens, const Session::OnProgress& progress = {});

}  // namespace lamina
