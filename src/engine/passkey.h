// SPDX-License-Identifier: Apache-2.0
// Retrieval: a number is hidden in a text that says nothing, and asked for at its end (the task of arXiv:2305.16300).
#pragma once
#include <string>
#include <vector>

#include "engine/ask.h"
#include "engine/retrieval_text.h"

namespace lamina {

// With one question, at a random depth in so much filler. Not RandomText's sentences: a repeated text, as the task has.
ContextQuestions make_passkey(RandomText random, int filler);

// The items of a file, an object with "input" and "target" a line. Where an input does not end with a question (KIVI's
// examples do not) one is added. Error that names the line.
std::vector<ContextQuestions> read_passkeys(const std::string& path, const std::string& text);

}  // namespace lamina
