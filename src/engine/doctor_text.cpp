// SPDX-License-Identifier: Apache-2.0
#include "engine/doctor_text.h"

namespace lamina {

std::string_view doctor_story() {
  return R"(The lighthouse at Farrow Point had been dark for eleven years when Ines Calder came to repair it. She arrived on
a Tuesday, with two boxes of tools, a notebook and a dog called Bramble who did not like the sea. The key that the
council had sent her turned in the lock, but the door was swollen with salt, and she had to lean on it until it gave way.

Inside, the stairs went up in a spiral, one hundred and forty-four of them. She counted them aloud on the way, and at
every twelfth step there was a small window. From the first one she saw the harbour, from the second one the church, and
from the third one nothing but water. At the top stood the lamp: a ring of glass prisms, taller than she was, grey with
dust. "Well," she told Bramble, "there you are." The dog sat down and yawned.

Her grandfather had kept this light. In his notebook, which she now carried, he had written down the weather of every
night from 1951 to 1978, along with the names of the ships that passed. On most pages there was also a drawing: a gull, a
rope, a cup of tea. On the last page there was only a sentence. "The motor needs oil on Sundays," it said, "and someone to
listen to it."

She began with the motor. It was a simple thing, a drum and a weight and a row of brass wheels, and it had stopped because
one of the wheels had lost two teeth. She took the wheel out, wrapped it in a cloth and carried it down to the village,
where a man named Tobias Wren had a workshop behind the bakery. He turned the wheel over in his hands for a long time.
"I can make you a new one," he said, "but not before Friday. What will you pay?" She said that she could pay forty pounds,
or she could mend the clock above his door. He looked up at the clock, which had shown ten past four for as long as anyone
could remember, and laughed. "The clock, then."

On Wednesday it rained. She cleaned the prisms with vinegar and soft paper, one after the other, and when she had finished
the first ring the light of the grey morning broke into colours on the wall. On Thursday the wind turned to the north and
the rain stopped. She climbed out on the gallery, scraped the rust from the railing and painted it white. On Friday she
mended the clock: a spring had slipped, nothing more. Tobias Wren gave her the wheel in a paper bag, as if it were bread.

That night she put the wheel in its place, oiled the drum and wound up the weight. Bramble watched from the stairs. For a
moment nothing moved. Then the brass wheels took hold of each other, the ring of prisms began to turn, and when she lit the
lamp a white beam went out over the water, came back, and went out again. In the village a window opened, and then another
one. She took the notebook, turned to the page after the last, and wrote: Friday, clear, wind from the north. One ship.
Then she sat down beside the motor, on a chair that was older than she was, and listened to it until the morning.
)";
}

// No U+2581: it is how SentencePiece's vocabularies write a space, and what they make of it.
std::span<const SpellingText> spelling_texts() {
  static constexpr SpellingText kTexts[] = {
      {"English", "It's the dog's bowl, isn't it? \"Yes\", they'd said; we'll see -- and that's all... (for now)!"},
      {"a program", "def f(x):\n\tif x != 0:\n        return {'a': x ** 2, \"b\": [1, 2]}  # note\n\n\nprint(f(-3))\n"},
      {"numbers", "3.14159 1,000,000 0x7fff 12:34:56 2026-11-28 50% $19.99 1e-9 007 42nd"},
      {"Latin letters with marks", "Größe, naïve café, Ångström, señor, İstanbul, Łódź, fiancé"},
      {"marks that combine", "e\xcc\x81 a\xcc\x88 o\xcc\x82\xcc\xa3 n\xcc\x83"},
      {"Greek and Cyrillic", "Ἐν ἀρχῇ ἦν ὁ λόγος. Съешь же ещё этих мягких булок."},
      {"Arabic and Hebrew", "مرحبا بالعالم ١٢٣ שלום עולם"},
      {"Hindi, Thai, Tamil", "नमस्ते दुनिया สวัสดีชาวโลก வணக்கம்"},
      {"Chinese, Japanese, Korean", "你好，世界！これはテストです。カタカナ 안녕하세요 세계"},
      {"emoji", "🙂 👩‍👩‍👧‍👦 🇫🇷 👍🏽 ❤️ 🏳️‍🌈"},
      {"symbols", "∑∫√∞≠≤ → ⇒ ½ ² ™ © € ¥ — “quoted” ‘so’ … •"},
      {"white space", "a  b   c\t\td \n e\r\nf\n\n\n  g   \n"},
      {"a leading space", " leading"},
      {"spelled control tokens", "<|im_start|>user <start_of_turn> <s></s> <bos> <|endoftext|> [INST]"},
      {"a long word", "pneumonoultramicroscopicsilicovolcanoconiosis_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},
  };
  return kTexts;
}

}  // namespace lamina
