// SPDX-License-Identifier: Apache-2.0
// The tokenizer that a model file carries.
#pragma once
#include "model/gguf.h"
#include "text/tokenizer.h"

namespace lamina {

// Views into the file: it must live until a Tokenizer is made of them.
TokenizerData tokenizer_data(const GgufFile& file);

inline Tokenizer load_tokenizer(const GgufFile& file) { return Tokenizer(tokenizer_data(file)); }

}  // namespace lamina
