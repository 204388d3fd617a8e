// SPDX-License-Identifier: Apache-2.0
// Any bytes as a GGUF file: parse, ask for every key as every type, de-quantise the first row of every tensor.
#include <vector>

#include "base/error.h"
#include "model/dequant.h"

namespace {

template <class Fn>
void try_to(Fn&& fn) {
  try {
    fn();
  } catch (const lamina::Error&) {  // what a wrong file should cause
  }
}

void look_up(const lamina::GgufFile& file, const std::string& key) {
  try_to([&] { file.integer(key); });
  try_to([&] { file.number(key); });
  try_to([&] { file.boolean(key); });
  try_to([&] { file.string(key); });
  try_to([&] { file.strings(key); });
  try_to([&] { file.integers(key); });
  try_to([&] { file.numbers(key); });
  try_to([&] { file.booleans(key); });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try_to([&] {
    const auto file = lamina::GgufFile::parse("fuzz.gguf", {reinterpret_cast<const std::byte*>(data), size});
    for (const auto& entry : file.metadata()) look_up(file, entry.first);
    for (const lamina::TensorView& tensor : file.tensors()) {
      std::vector<float> weights(static_cast<std::size_t>(tensor.cols()));
      lamina::dequantize(tensor.type, tensor.row(0), weights);
    }
  });
  return 0;
}
