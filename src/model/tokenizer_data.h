// SPDX-License-Identifier: Apache-2.0
// The tokenizer that a model file carries.
#pragma once
#include <string>

#include "model/model_file.h"
#include "text/tokenizer.h"

namespace lamina {

// Views into the file: it must live until a Tokenizer is made of them.
TokenizerData tokenizer_data(const GgufFile& file);

Tokenizer load_tokenizer(const ModelFile& file);

// The chat template that comes with the model, "" if there is none.
std::string chat_template(const ModelFile& file);

}  // namespace lamina
