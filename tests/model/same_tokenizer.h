// SPDX-License-Identifier: Apache-2.0
// Two tokenizers that must not differ in anything.
#pragma once
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "model/tokenizer_data.h"

namespace lamina {

inline const std::vector<std::string> kTexts = {"The quick brown fox",
                                                "  leading and  double spaces  ",
                                                "tabs\tand\r\nlines\n\n\n x",
                                                "don't I'LL we've",
                                                "1234567 ٣٤٥ ½",
                                                "naïve café — “quotes” …",
                                                "日本語とemoji 👩‍👩‍👧‍👦🏳️‍🌈",
                                                "<|im_start|>user\nhi<|im_end|>\n<|endoftext|>",
                                                "<|im_start",
                                                "def f(x):\n    return x**2",
                                                std::string("\xff\xfe\x80 \0 \xe2\x82", 9),
                                                "\u00a0\u2003\u3000x",
                                                "ﬁ ①  Å Å",
                                                "",
                                                " ",
                                                std::string(300, 'a')};

inline void expect_same(const Tokenizer& before, const Tokenizer& after) {
  ASSERT_EQ(before.vocab_size(), after.vocab_size());
  for (Token token = 0; token < before.vocab_size(); ++token) {
    ASSERT_EQ(before.piece(token), after.piece(token)) << token;
    ASSERT_EQ(before.is_special(token), after.is_special(token)) << token;
    ASSERT_EQ(before.is_end_of_generation(token), after.is_end_of_generation(token)) << token;
  }
  for (const std::string& text : kTexts)
    for (const bool special : {false, true})
      EXPECT_EQ(before.encode(text, special), after.encode(text, special)) << text;
  EXPECT_EQ(before.bos(), after.bos());
  EXPECT_EQ(before.eos(), after.eos());
  EXPECT_EQ(before.add_bos(), after.add_bos());
  EXPECT_EQ(before.add_eos(), after.add_eos());
}

}  // namespace lamina
