// SPDX-License-Identifier: Apache-2.0
#include "engine/comparison.h"

#include <memory>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/stopwatch.h"

namespace lamina {
namespace {

using SpecList = std::vector<std::shared_ptr<const KvSpec>>;

struct Job {
  const Measurement* measurement;
  SpecList specs;           // that lack it
  std::string unavailable;  // why the model has no such measurement: nothing is run
  // Tokens of prompts and, each worth several of those, decoded ones. Specs do not share all prompts: some extra.
  double effort() const {
    constexpr double kDecoded = 8, kExtra = 0.2;
    const auto n = static_cast<double>(specs.size());
    return unavailable.empty()
               ? measurement->prompt_tokens * (1 + kExtra * n) + kDecoded * n * measurement->decoded_tokens
               : 0;
  }
};

std::vector<Job> jobs_of(const Suite& suite, const KvShape& shape, Specs specs, const ResultsFile& file) {
  std::vector<Job> jobs;
  for (const Measurement& m : suite.measurements) {
    Job job{.measurement = &m, .specs = {}, .unavailable = {}};
    if (m.own_spec.empty()) {
      for (const auto& spec : specs)
        if (file.find(spec->key(), m.name) == nullptr) job.specs.push_back(spec);
    } else if (file.find(m.own_spec, m.name) == nullptr) {
      try {
        job.specs.push_back(std::make_shared<const KvSpec>(KvSpec::parse(m.own_spec, shape)));
      } catch (const Error& error) {
        job.unavailable = error.what();
      }
    }
    if (!job.specs.empty() || !job.unavailable.empty()) jobs.push_back(std::move(job));
  }
  return jobs;
}

std::vector<Outcome> run(const Job& job, const Subject& subject) {
  if (!job.unavailable.empty()) return {Outcome{.values = {{"unavailable", job.unavailable}}}};
  return job.measurement->run(subject, job.specs);
}

void append(const Job& job, std::vector<Outcome> outcomes, const Stopwatch& watch, int threads, ResultsFile& file) {
  const double seconds = watch.seconds() / static_cast<double>(outcomes.size());
  for (std::size_t i = 0; i < outcomes.size(); ++i) {
    const std::string& own = job.measurement->own_spec;
    Outcome& outcome = outcomes[i];
    outcome.timing["seconds"] = seconds;
    outcome.timing["threads"] = threads;
    file.append({.kv_spec = own.empty() ? job.specs[i]->text() : own,
                 .kv_key = own.empty() ? job.specs[i]->key() : own,
                 .measurement = job.measurement->name,
                 .values = std::move(outcome.values),
                 .timing = std::move(outcome.timing)});
  }
}

}  // namespace

void compare(const Suite& suite, Subject subject, Specs specs, ResultsFile& file, const OnCompare& on_state) {
  const std::vector<Job> jobs = jobs_of(suite, subject.model.shape(), specs, file);
  double all = 0, done = 0;
  for (const Job& job : jobs) all += job.effort();
  CompareState state{.measurement = {}, .measurements = jobs.size()};
  const Stopwatch whole;
  double last = 0;  // when the last measurement ended
  subject.on_step = [&] {
    const double since = whole.seconds() - last;
    state.seconds_left = done > 0 ? std::max(0.0, last / done * (all - done) - since) : -1;
    on_state(state);
  };
  for (const Job& job : jobs) {
    state.measurement = job.measurement->name;
    subject.on_step();
    const Stopwatch watch;
    append(job, run(job, subject), watch, subject.pool.threads(), file);
    done += job.effort();
    last = whole.seconds();
    ++state.done;
  }
}

}  // namespace lamina
