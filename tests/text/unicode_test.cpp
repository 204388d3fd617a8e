// SPDX-License-Identifier: Apache-2.0
#include "text/unicode.h"

#include <gtest/gtest.h>

namespace lamina {
namespace {

TEST(Utf8, EncodesWhatItDecodes) {
  for (const char32_t code : {0x0U, 0x7FU, 0x80U, 0x7FFU, 0x800U, 0xD7FFU, 0xE000U, 0xFFFFU, 0x10000U, 0x10FFFFU}) {
    std::string text;
    append_utf8(text, code);
    const Utf8Char c = decode_utf8(text, 0);
    EXPECT_EQ(c.code, code);
    EXPECT_EQ(c.bytes, text.size());
    EXPECT_EQ(c.status, Utf8Status::kValid);
  }
}

TEST(Utf8, TellsInvalidFromIncomplete) {
  const auto status = [](std::string_view text) { return decode_utf8(text, 0).status; };
  for (const auto* text : {"\x80", "\xc0\x80", "\xc1\xbf", "\xe0\x80\x80", "\xed\xa0\x80", "\xf0\x80\x80\x80",
                           "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "\xe2(\xa1"}) {
    EXPECT_EQ(status(text), Utf8Status::kInvalid) << text;
  }
  for (const auto* text : {"\xc3", "\xe2", "\xe2\x82", "\xf0\x9f\x98"}) {
    EXPECT_EQ(status(text), Utf8Status::kIncomplete) << text;
  }
}

TEST(Utf8, AnInvalidSequenceTakesItsWellFormedPrefix) {
  EXPECT_EQ(decode_utf8("\xe2\x82(", 0).bytes, 2U);
  EXPECT_EQ(decode_utf8("\xf0\x9f\x98x", 0).bytes, 3U);
  EXPECT_EQ(decode_utf8("\xed\xa0\x80", 0).bytes, 1U);
}

TEST(CharClass, KnowsTheClassesOfTheExpressions) {
  EXPECT_EQ(char_class('a'), kLetter | kLowerish);
  EXPECT_EQ(char_class(0x1C5), kLetter | kUpperish);               // Lt
  EXPECT_EQ(char_class(0x4E00), kLetter | kUpperish | kLowerish);  // Lo
  EXPECT_EQ(char_class(0x301), kUpperish | kLowerish);             // Mn
  EXPECT_EQ(char_class(0xBD), kNumber);                            // No
  EXPECT_EQ(char_class(0x2167), kNumber);                          // Nl
  EXPECT_EQ(char_class('\n'), kSpace | kNewline);
  EXPECT_EQ(char_class(0x85), kSpace);
  EXPECT_EQ(char_class(0x3000), kSpace);
  EXPECT_EQ(char_class(0x200B), 0);
  EXPECT_EQ(char_class('!'), 0);
}

TEST(Nfc, ComposesAndKeepsWhatIsNotUtf8) {
  EXPECT_EQ(to_nfc("e\u0301"), "\u00e9");
  EXPECT_EQ(to_nfc("\u212b"), "\u00c5");
  EXPECT_EQ(to_nfc("\xff"
                   "e\u0301\xc3"),
            "\xff\u00e9\xc3");
  EXPECT_EQ(to_nfc(""), "");
}

}  // namespace
}  // namespace lamina
