// SPDX-License-Identifier: Apache-2.0
// The suites of `lamina compare`: a list of measurements, each of which gives every spec some values on the same data.
// Values are the same in every run and for any number of threads; what time was taken is kept apart from them.
#pragma once
#include <cstddef>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"
#include "engine/shared_prompt.h"
#include "model/forward.h"
#include "text/tokenizer.h"

namespace lamina {

struct Subject {
  Model& model;
  const Tokenizer& tokenizer;
  ThreadPool& pool;
  int batch = 512;
  std::function<void()> on_step = [] {};  // called after each step; it may throw to end the work
};

struct Outcome {
  nlohmann::ordered_json values = nlohmann::ordered_json::object();
  nlohmann::ordered_json timing = nlohmann::ordered_json::object();  // besides the seconds that it took
};

struct Measurement {
  std::string name;  // "perplexity", "choice.arc_easy"
  // Of the model, not of each spec: measured once, under this one. Such names begin with "model.".
  std::string own_spec{};
  // Tokens of prompts, which specs share, and tokens that each spec decodes: to tell how long it will take.
  double prompt_tokens = 0, decoded_tokens = 0;
  std::function<std::vector<Outcome>(const Subject& subject, Specs specs)> run{};  // [spec]
};

struct SuiteFiles {
  std::string text;  // a file; empty: the folder's
  std::string data;  // a folder of public data sets, laid out as their sources are; empty: no tasks that need them
};

struct SuiteSizes {
  int windows = 4, prompt = 1024, scored = 64;  // perplexity
  std::vector<std::string> choices = {"arc_easy"};
  int items = 40, item_tokens = 1024;          // choice: shots until a context has so many tokens
  int contexts = 10, retrieval_tokens = 1024;  // of each task
  int samples = 4, sample_prompt = 512, sample_tokens = 64;
  int questions = 0, question_tokens = 128;  // of GSM8K
  std::vector<Pos> depths = {1024, 4096};
  int speed_tokens = 24;
  int sentences = 16, sentence_tokens = 64;  // of the distances between layers

  // Lengths as above, or less where the context has not twice the room.
  static SuiteSizes of(std::string_view suite, Pos context);
};

struct Suite {
  std::string name;
  SuiteSizes sizes;
  std::string data;  // a hash of the files' contents and the sizes
  std::vector<Measurement> measurements;
};

std::vector<std::string> suite_names();
// What a suite reads of a folder of data, beside a text of the user's own or without one.
std::vector<std::string> data_files(const SuiteSizes& sizes, bool own_text);
// Reads all its files. Error that names file and line.
Suite make_suite(const std::string& name, const SuiteFiles& files, const Tokenizer& tokenizer, Pos context);

}  // namespace lamina
