// SPDX-License-Identifier: Apache-2.0
// The tokenizer of a GGUF file as the files of a Hugging Face folder.
#pragma once
#include "model/gguf.h"
#include "model/tokenizer_json.h"

namespace lamina {

// Of a byte-level BPE: read back, the files give the same tokens. Error, saying why, for a tokenizer that cannot be
// written so: one of SentencePiece above all, whose merges follow from scores while tokenizer.json lists them.
TokenizerFiles tokenizer_files(const GgufFile& file);

}  // namespace lamina
