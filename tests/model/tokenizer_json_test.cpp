// SPDX-License-Identifier: Apache-2.0
// Expected ids and texts come from Hugging Face's tokenizers (tools/golden_tokenizer_json.py).
#include "model/tokenizer_json.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "base/error.h"

namespace lamina {
namespace {

using nlohmann::json;
using Ids = std::vector<Token>;

json golden(const std::string& name) {
  const std::string path = std::string(LAMINA_TESTS) + "/golden/tokenizer_json/" + name + ".json";
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot open " + path);
  return json::parse(file);
}

// `patch` replaces members of the file, and single fields of its model.
json patched(json file, const json& patch) {
  for (const auto& [key, value] : patch.items()) {
    if (key == "model") {
      file["model"].update(value);
    } else {
      file[key] = value;
    }
  }
  return file;
}

json variant(const std::string& base, const std::string& name) {
  const json file = golden(base);
  return patched(file.at("tokenizer"), file.at("variants").at(name).at("patch"));
}

Tokenizer tokenizer_of(json file, json config = nullptr, json generation = nullptr) {
  return make_tokenizer({.folder = "test",
                         .tokenizer = std::move(file),
                         .tokenizer_config = std::move(config),
                         .special_tokens_map = nullptr,
                         .generation_config = std::move(generation)});
}

Ids framed(const Tokenizer& tokenizer, const std::string& text) {
  Ids ids = tokenizer.encode(text, true);
  if (tokenizer.add_bos()) ids.insert(ids.begin(), tokenizer.bos().value());
  if (tokenizer.add_eos()) ids.push_back(tokenizer.eos().value());
  return ids;
}

std::string decoded(const Tokenizer& tokenizer, const Ids& ids) { return tokenizer.decode(ids, false); }

void expect_variants(const std::string& base, std::size_t count) {
  const auto texts = golden("texts").get<std::vector<std::string>>();
  ASSERT_GE(texts.size(), 60U);
  const json file = golden(base);
  EXPECT_EQ(file.at("variants").size(), count);
  for (const auto& [name, expected] : file.at("variants").items()) {
    SCOPED_TRACE(name);
    const Tokenizer tokenizer = tokenizer_of(patched(file.at("tokenizer"), expected.at("patch")));
    for (std::size_t i = 0; i < texts.size(); ++i) {
      const std::string at = std::to_string(i);
      const auto ids = expected.at("ids").at(i).get<Ids>();
      EXPECT_EQ(tokenizer.encode(texts[i], true), ids) << texts[i];
      EXPECT_EQ(tokenizer.encode(texts[i], false), expected.at("plain").value(at, ids)) << texts[i];
      EXPECT_EQ(decoded(tokenizer, ids), expected.at("decoded").value(at, texts[i])) << texts[i];
    }
    EXPECT_EQ(framed(tokenizer, "Hello"), expected.at("framed").get<Ids>());
  }
}

TEST(TokenizerJson, ByteLevelEqualsHuggingFace) { expect_variants("byte_level", 5); }

TEST(TokenizerJson, CharactersEqualHuggingFace) { expect_variants("characters", 6); }

TEST(TokenizerJson, MergesMayBeStrings) {
  json file = variant("byte_level", "gpt2");
  const Tokenizer pairs = tokenizer_of(file);
  for (json& merge : file["model"]["merges"]) merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
  const Tokenizer strings = tokenizer_of(file);
  const std::string text = "The quick brown fox jumps";
  EXPECT_EQ(strings.encode(text, true), pairs.encode(text, true));
  EXPECT_LT(pairs.encode(text, true).size(), text.size());
}

TEST(TokenizerJson, BytesThatAreNotUtf8ComeBack) {
  const std::string text("a\xff\xe2\x82 \0 b\xc3", 9);
  for (const auto& [base, name] :
       {std::pair("byte_level", "gpt2"), std::pair("characters", "llama2"), std::pair("characters", "gemma")}) {
    const Tokenizer tokenizer = tokenizer_of(variant(base, name));
    EXPECT_EQ(decoded(tokenizer, tokenizer.encode(text, true)), text) << name;
  }
}

TEST(TokenizerJson, LongTextIsCutWithoutAChange) {  // words are encoded one by one; the words of one token are its text
  const Tokenizer tokenizer = tokenizer_of(variant("characters", "llama2"));
  std::string text = "the";
  for (int i = 0; i < 20000; ++i) text += i % 3 == 0 ? "  aa the" : " the";
  EXPECT_EQ(decoded(tokenizer, tokenizer.encode(text, true)), text);
}

// ---- the files beside tokenizer.json
// ----------------------------------------------------------------------------------
TEST(TokenizerJson, ConfigNamesBosAndEos) {
  const json file = variant("byte_level", "gpt2");
  const Tokenizer bare = tokenizer_of(file);
  EXPECT_FALSE(bare.bos().has_value());
  EXPECT_FALSE(bare.add_bos());
  const json config = {{"bos_token", "<s>"}, {"eos_token", {{"content", "<|b|>"}}}, {"add_bos_token", true}};
  const Tokenizer named = tokenizer_of(file, config);
  EXPECT_EQ(named.bos(), named.find_special("<s>"));
  EXPECT_EQ(named.eos(), named.find_special("<|b|>"));
  EXPECT_TRUE(named.add_bos());
  EXPECT_FALSE(named.add_eos());
  EXPECT_TRUE(named.is_end_of_generation(named.find_special("<|b|>").value()));
  EXPECT_FALSE(named.is_end_of_generation(named.find_special("<|a|>").value()));
}

TEST(TokenizerJson, ConfigGoesBeforeThePostProcessor) {
  const json file = variant("byte_level", "tekken");
  const json named = {{"bos_token", "<s>"}};
  EXPECT_TRUE(tokenizer_of(file, named).add_bos());
  EXPECT_TRUE(tokenizer_of(file, named).add_eos());
  const json off = {{"bos_token", "<s>"}, {"add_bos_token", false}};
  EXPECT_FALSE(tokenizer_of(file, off).add_bos());
  EXPECT_FALSE(tokenizer_of(file, off).add_eos());
}

TEST(TokenizerJson, GenerationConfigNamesFurtherEnds) {
  const json file = variant("byte_level", "gpt2");
  const Tokenizer several =
      tokenizer_of(file, {{"eos_token", "</s>"}}, {{"bos_token_id", 7}, {"eos_token_id", {0, 9}}});
  for (const Token token : {0, 9, several.find_special("</s>").value()})
    EXPECT_TRUE(several.is_end_of_generation(token)) << token;
  EXPECT_FALSE(several.is_end_of_generation(1));
  EXPECT_EQ(several.bos(), 7);
  EXPECT_EQ(tokenizer_of(file, nullptr, {{"eos_token_id", 9}}).eos(), 9);
}

TEST(TokenizerJson, EndsAreSpecialEvenIfNotAdded) {
  const Tokenizer tokenizer = tokenizer_of(variant("byte_level", "gpt2"), {{"eos_token", "he"}});
  const Token he = tokenizer.find_special("he").value();
  EXPECT_EQ(tokenizer.encode("xhe", true).back(), he);
  EXPECT_TRUE(tokenizer.is_special(he));
}

class Folder : public testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directories(path_); }
  void TearDown() override { std::filesystem::remove_all(path_); }
  void write(const std::string& name, const std::string& text) const { std::ofstream(path_ + "/" + name) << text; }

  const std::string path_ = testing::TempDir() + "lamina_tokenizer_json";
};

TEST_F(Folder, LoadsWithWhatIsThere) {
  write("tokenizer.json", variant("characters", "llama2").dump());
  EXPECT_EQ(load_tokenizer_json(path_).bos(), 1);  // of the post_processor
  EXPECT_FALSE(load_tokenizer_json(path_).eos().has_value());
  write("special_tokens_map.json", R"({"eos_token": {"content": "</s>"}})");
  EXPECT_EQ(load_tokenizer_json(path_).eos(), 2);
  write("tokenizer_config.json", R"({"eos_token": "<|a|>", "model_max_length": 1000000000000000019884624838656})");
  const Tokenizer tokenizer = load_tokenizer_json(path_);
  EXPECT_EQ(tokenizer.eos(), tokenizer.find_special("<|a|>"));
}

TEST_F(Folder, HasAChatTemplate) {
  EXPECT_EQ(chat_template_of(path_), "");
  write("tokenizer_config.json", R"({"chat_template": [{"name": "rag", "template": "r"},
                                                       {"name": "default", "template": "d"}]})");
  EXPECT_EQ(chat_template_of(path_), "d");
  write("tokenizer_config.json", R"({"chat_template": "one"})");
  EXPECT_EQ(chat_template_of(path_), "one");
  write("chat_template.jinja", "its own file\n");
  EXPECT_EQ(chat_template_of(path_), "its own file\n");
}

std::string error_of(const std::function<void()>& run) {
  try {
    run();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST_F(Folder, NamesTheFileThatIsWrong) {
  const auto load = [&] { load_tokenizer_json(path_); };
  EXPECT_EQ(error_of(load), path_ + ": no tokenizer.json in it");
  write("tokenizer.json", "{\"model\": \"\xff\"}");
  EXPECT_EQ(error_of(load), path_ + "/tokenizer.json: not JSON at byte 12 of 14");
  write("tokenizer.json", std::string(100000, '['));
  EXPECT_NE(error_of(load).find("/tokenizer.json: JSON nested deeper than"), std::string::npos);
  write("tokenizer_config.json", R"({"chat_template": [{"name": "rag", "template": "r"}]})");
  EXPECT_NE(error_of([&] { chat_template_of(path_); }).find("chat_template is [{"), std::string::npos);
}

// ---- errors
// -----------------------------------------------------------------------------------------------------------
struct Wrong {
  std::string base;  // "byte_level" or "characters"
  std::string edit;  // a JSON patch (RFC 6902)
  std::string error;
};

void PrintTo(const Wrong& wrong, std::ostream* out) { *out << wrong.base << ' ' << wrong.edit; }

class WrongFile : public testing::TestWithParam<Wrong> {};

TEST_P(WrongFile, IsRefusedInOneLine) {
  const json file = golden(GetParam().base).at("tokenizer").patch(json::parse(GetParam().edit));
  const std::string error = error_of([&] { tokenizer_of(file); });
  EXPECT_EQ(error.substr(0, GetParam().error.size()), GetParam().error) << error;
  EXPECT_TRUE(error.starts_with("test/tokenizer.json: "));
  EXPECT_EQ(error.find('\n'), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(
    Model, WrongFile,
    testing::Values(
        Wrong{"byte_level", R"([{"op":"remove","path":"/model"}])", "test/tokenizer.json: model is missing or null"},
        Wrong{"byte_level", R"([{"op":"replace","path":"/model","value":[1]}])",
              "test/tokenizer.json: model is [1], expected an object"},
        Wrong{"byte_level", R"([{"op":"replace","path":"/model/type","value":"Unigram"}])",
              "test/tokenizer.json: model.type is \"Unigram\", expected \"BPE\""},
        Wrong{"byte_level", R"([{"op":"replace","path":"/model/type","value":"Word\nPiece"}])",
              "test/tokenizer.json: model.type is \"Word\\nPiece\", expected \"BPE\""},
        Wrong{"byte_level", R"([{"op":"replace","path":"/model/dropout","value":0.1}])",
              "test/tokenizer.json: model.dropout is 0.1"},
        Wrong{"byte_level", R"([{"op":"replace","path":"/model/end_of_word_suffix","value":"</w>"}])",
              "test/tokenizer.json: model.end_of_word_suffix is \"</w>\", expected none"},
        Wrong{"byte_level", R"([{"op":"replace","path":"/model/vocab","value":{}}])",
              "test/tokenizer.json: model.vocab is {}"},
        Wrong{"byte_level", R"([{"op":"replace","path":"/model/vocab/aa","value":"7"}])",
              "test/tokenizer.json: model.vocab: \"aa\" is \"7\", expected an id from 0 to 602"},
        Wrong{"byte_level", R"([{"op":"replace","path":"/model/vocab/aa","value":603}])",
              "test/tokenizer.json: model.vocab: \"aa\" is 603, expected an id from 0 to 602"},
        Wrong{"byte_level", R"([{"op":"replace","path":"/model/vocab/aa","value":-1}])",
              "test/tokenizer.json: model.vocab: \"aa\" is -1"},
        Wrong{"byte_level", R"([{"op":"replace","path":"/model/vocab/aa","value":18446744073709551615}])",
              "test/tokenizer.json: model.vocab: \"aa\" is 18446744073709551615"},
        Wrong{"byte_level", R"([{"op":"replace","path":"/model/vocab/aa","value":0}])",
              "test/tokenizer.json: model.vocab: \"aa\" is 0, expected another id than \"<|a|>\" has"},
        Wrong{"byte_level", R"([{"op":"remove","path":"/model/vocab/aa"}])", "test/tokenizer.json: model.vocab: "},
        Wrong{"byte_level", R"([{"op":"replace","path":"/model/merges","value":{}}])",
              "test/tokenizer.json: model.merges is {}, expected an array"},
        Wrong{"byte_level", R"([{"op":"replace","path":"/model/merges/3","value":["a","b","c"]}])",
              "test/tokenizer.json: model.merges[3] is [\"a\",\"b\",\"c\"], expected two tokens"},
        Wrong{"byte_level", R"([{"op":"replace","path":"/model/merges/3","value":"a b c"}])",
              "test/tokenizer.json: model.merges[3] is \"a b c\", expected two tokens"},
        Wrong{"byte_level", R"([{"op":"replace","path":"/model/merges/3","value":["q","q"]}])",
              "test/tokenizer.json: model.merges[3] is [\"q\",\"q\"], expected tokens of model.vocab"},
        Wrong{"byte_level", R"([{"op":"replace","path":"/model/byte_fallback","value":true}])",
              "test/tokenizer.json: model.byte_fallback is true, expected false beside ByteLevel"},
        Wrong{"characters", R"([{"op":"replace","path":"/model/ignore_merges","value":true}])",
              "test/tokenizer.json: model.ignore_merges is true"},
        Wrong{"characters", R"([{"op":"replace","path":"/model/unk_token","value":"<none>"}])",
              "test/tokenizer.json: model.unk_token is \"<none>\", expected a token of model.vocab"},
        Wrong{"characters",
              R"([{"op":"remove","path":"/model/vocab/<0x41>"},{"op":"add","path":"/model/vocab/<0x4l>","value":68}])",
              "test/tokenizer.json: model.byte_fallback is true, but model.vocab has no <0x41>"}));

INSTANTIATE_TEST_SUITE_P(
    AddedTokens, WrongFile,
    testing::Values(Wrong{"byte_level", R"([{"op":"replace","path":"/added_tokens","value":7}])",
                          "test/tokenizer.json: added_tokens is 7, expected an array"},
                    Wrong{"byte_level", R"([{"op":"replace","path":"/added_tokens/1/id","value":604}])",
                          "test/tokenizer.json: added_tokens[1].id is 604, expected 603"},
                    Wrong{"byte_level", R"([{"op":"replace","path":"/added_tokens/0/id","value":1e99}])",
                          "test/tokenizer.json: added_tokens[0].id is 1e+99, expected an integer"},
                    Wrong{"byte_level", R"([{"op":"replace","path":"/added_tokens/0/content","value":"th"}])",
                          "test/tokenizer.json: added_tokens[0].id is 0, expected"},
                    Wrong{"byte_level", R"([{"op":"replace","path":"/added_tokens/0/content","value":""}])",
                          "test/tokenizer.json: added_tokens[0].content is \"\", expected text"},
                    Wrong{"byte_level",
                          R"([{"op":"replace","path":"/added_tokens/1/content","value":"<|a|>"},
                  {"op":"replace","path":"/added_tokens/1/id","value":0}])",
                          "test/tokenizer.json: added_tokens[1].content is \"<|a|>\", expected each token once"},
                    Wrong{"byte_level", R"([{"op":"replace","path":"/added_tokens/1/single_word","value":true}])",
                          "test/tokenizer.json: added_tokens[1].single_word is true, expected false"},
                    Wrong{"byte_level", R"([{"op":"replace","path":"/added_tokens/1/lstrip","value":1}])",
                          "test/tokenizer.json: added_tokens[1].lstrip is 1, expected true or false"},
                    Wrong{"characters", R"([{"op":"replace","path":"/added_tokens/1/normalized","value":true}])",
                          "test/tokenizer.json: added_tokens[1].normalized is true, expected false"}));

INSTANTIATE_TEST_SUITE_P(
    Steps, WrongFile,
    testing::Values(
        Wrong{"characters", R"([{"op":"replace","path":"/normalizer","value":{"type":"Lowercase"}}])",
              "test/tokenizer.json: normalizer.type is \"Lowercase\", expected NFC, Prepend or Replace"},
        Wrong{"characters", R"([{"op":"replace","path":"/normalizer","value":{"type":"Prepend","prepend":"x"}}])",
              "test/tokenizer.json: normalizer.prepend is \"x\", expected \"\\u2581\""},
        Wrong{"characters", R"([{"op":"replace","path":"/normalizer","value":{"type":"NFC"}}])",
              "test/tokenizer.json: normalizer is {\"type\":\"NFC\"}"},
        Wrong{"characters", R"([{"op":"replace","path":"/normalizer","value":null}])",
              "test/tokenizer.json: pre_tokenizer is missing or null"},
        Wrong{"byte_level", R"([{"op":"replace","path":"/pre_tokenizer/add_prefix_space","value":true}])",
              "test/tokenizer.json: pre_tokenizer.add_prefix_space is true, expected false"},
        Wrong{"byte_level", R"([{"op":"replace","path":"/pre_tokenizer/use_regex","value":false}])",
              "test/tokenizer.json: pre_tokenizer is {"},
        Wrong{"byte_level", R"([{"op":"replace","path":"/pre_tokenizer","value":{"type":"Whitespace"}}])",
              "test/tokenizer.json: pre_tokenizer is {\"type\":\"Whitespace\"}"},
        Wrong{"byte_level",
              R"([{"op":"replace","path":"/pre_tokenizer","value":{"type":"Sequence","pretokenizers":[
                  {"type":"Split","pattern":{"Regex":"\\d+"},"behavior":"Isolated","invert":false},
                  {"type":"ByteLevel","add_prefix_space":false,"use_regex":false}]}}])",
              "test/tokenizer.json: pre_tokenizer has the regular expression \"\\\\d+\", expected that of GPT-2"},
        Wrong{"characters",
              R"([{"op":"replace","path":"/normalizer","value":null},{"op":"replace","path":"/pre_tokenizer",
                  "value":{"type":"Metaspace","replacement":"▁","prepend_scheme":"last"}}])",
              "test/tokenizer.json: pre_tokenizer.prepend_scheme is \"last\", expected always, first or never"},
        Wrong{"byte_level", R"([{"op":"replace","path":"/decoder/type","value":"WordPiece"}])",
              "test/tokenizer.json: decoder.type is \"WordPiece\", expected ByteLevel"},
        Wrong{"characters", R"([{"op":"remove","path":"/decoder/decoders/0"}])", "test/tokenizer.json: decoder is {"},
        Wrong{"characters", R"([{"op":"replace","path":"/decoder/decoders/3/start","value":2}])",
              "test/tokenizer.json: decoder.decoders[3].start is 2"},
        Wrong{"byte_level", R"([{"op":"replace","path":"/post_processor","value":{"type":"BertProcessing"}}])",
              "test/tokenizer.json: post_processor.type is \"BertProcessing\""},
        Wrong{"characters", R"([{"op":"replace","path":"/post_processor/special_tokens/<s>/ids/0","value":695}])",
              "test/tokenizer.json: post_processor.special_tokens.<s>.ids[0] is 695"},
        Wrong{"characters", R"([{"op":"remove","path":"/post_processor/special_tokens"}])",
              "test/tokenizer.json: post_processor.special_tokens.<s>.ids is missing"},
        Wrong{"characters", R"([{"op":"add","path":"/post_processor/single/0","value":{"SpecialToken":{"id":"<s>"}}}])",
              "test/tokenizer.json: post_processor.single[1] is {"}));

TEST(TokenizerJson, RefusesConfigsThatDoNotFit) {
  const json file = variant("byte_level", "llama3");
  const auto error = [&](const json& config, const json& generation) {
    return error_of([&] { tokenizer_of(file, config, generation); });
  };
  EXPECT_EQ(error({{"eos_token", "<none>"}}, nullptr),
            "test/tokenizer_config.json: eos_token is \"<none>\", expected a token of tokenizer.json");
  EXPECT_EQ(error({{"bos_token", {{"text", "<s>"}}}}, nullptr),
            "test/tokenizer_config.json: bos_token.content is missing or null, expected a string");
  EXPECT_EQ(error({{"bos_token", "</s>"}}, nullptr),
            "test/tokenizer.json: post_processor adds token 604, but bos_token is 605");
  EXPECT_EQ(error(json::array(), nullptr), "test/tokenizer_config.json: the file is [], expected an object");
  EXPECT_EQ(error(nullptr, {{"eos_token_id", {1, 609}}}),
            "test/generation_config.json: eos_token_id[1] is 609, expected an integer from 0 to 608");
}

}  // namespace
}  // namespace lamina
