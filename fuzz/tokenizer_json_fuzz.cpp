// SPDX-License-Identifier: Apache-2.0
// Any bytes as tokenizer.json, tokenizer_config.json and generation_config.json, with a zero byte between them: read,
// and if they make a tokenizer, texts to tokens and back.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "model/tokenizer_json.h"

namespace {

using lamina::Token;

void use(const lamina::Tokenizer& tokenizer, std::string_view text) {
  for (const bool parse_special : {false, true}) {
    const std::vector<Token> tokens = tokenizer.encode(text, parse_special);
    for (const Token token : tokens)
      if (!tokenizer.contains(token)) std::abort();
    const std::string decoded = tokenizer.decode(tokens, true);
    static_cast<void>(tokenizer.encode(decoded, parse_special));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  const std::string_view whole = rest;
  const auto next = [&](const char* name) -> nlohmann::json {
    const std::string_view text = rest.substr(0, rest.find('\0'));
    rest.remove_prefix(std::min(rest.size(), text.size() + 1));
    return text.empty() ? nlohmann::json() : lamina::parse_json(text, name);
  };
  try {
    lamina::TokenizerFiles files{.folder = "fuzz"};
    files.tokenizer = next("tokenizer.json");
    files.tokenizer_config = next("tokenizer_config.json");
    files.generation_config = next("generation_config.json");
    const lamina::Tokenizer tokenizer = lamina::make_tokenizer(files);
    use(tokenizer, whole);
    use(tokenizer, " Hello  world\n<s>\u3000<|a|> aaab\xff\u2581x é");
  } catch (const lamina::Error&) {  // what a wrong file should cause
  }
  return 0;
}
