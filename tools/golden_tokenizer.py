# SPDX-License-Identifier: Apache-2.0
"""Makes tests/golden/tokenizer/*.json: what Hugging Face's tokenizers make of some 350 strings.

    .venv/bin/pip install torch transformers gguf sentencepiece protobuf
    .venv/bin/python tools/golden_tokenizer.py [NAME...]     # strings splits tiny_bpe tiny_spm smollm2 gemma3 llama2 tok512

The last four need models/smollm2.gguf, models/gemma3.gguf, ../shared/models/gguf-vocab and ../shared/models/tok512.bin.
"""
import io
import json
import struct
import sys
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "tests" / "golden" / "tokenizer"
SHARED = ROOT.parent / "shared" / "models"

# ---- the strings -----------------------------------------------------------------------------------------------------

SCRIPTS = [
    "The quick brown fox jumps over the lazy dog.", "Zażółć gęślą jaźń", "Größenwahnsinnige Übermütigkeit",
    "L'été où j'ai mangé des crêpes à Nîmes", "El pingüino Wenceslao hizo kilómetros", "Þjóðfélagið er ævintýri",
    "Příliš žluťoučký kůň úpěl ďábelské ódy", "Pijamalı hasta yağız şoföre çabucak güvendi", "İstanbul ISPARTA ıi",
    "Съешь ещё этих мягких французских булок", "Щастя й здоров'я, їжак", "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία",
    "Բարեւ աշխարհ", "გამარჯობა მსოფლიო", "שלום עולם, מה שלומך?", "שָׁלוֹם עֲלֵיכֶם", "مرحبا بالعالم كيف حالك",
    "السَّلَامُ عَلَيْكُمْ", "سلام دنیا، خوبی؟", "ہیلو دنیا", "नमस्ते दुनिया", "क्षत्रिय ज्ञान श्री", "হ্যালো বিশ্ব",
    "ਸਤ ਸ੍ਰੀ ਅਕਾਲ", "નમસ્તે વિશ્વ", "வணக்கம் உலகம்", "హలో ప్రపంచం", "ಹಲೋ ವಿಶ್ವ", "ഹലോ വേൾഡ്", "හෙලෝ වර්ල්ඩ්",
    "สวัสดีชาวโลก ทดสอบภาษาไทย", "ສະບາຍດີຊາວໂລກ", "မင်္ဂလာပါကမ္ဘာ", "សួស្តីពិភពលោក", "བོད་སྐད་ཡིག", "ሰላም ልዑል",
    "ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ", "ᐃᓄᒃᑎᑐᑦ", "ᚠᚢᚦᚨᚱᚲ", "你好，世界！今天天气怎么样？", "臺灣繁體中文測試", "我们 在 2024年 见面",
    "こんにちは世界、テストです。", "カタカナ ｶﾀｶﾅ ひらがな", "吾輩は猫である。名前はまだ無い。", "안녕하세요 세계", "안녕 한글 자모",
    "Xin chào thế giới, tiếng Việt", "Tiê\u0301ng Viê\u0323t", "𝒽ℯ𝓁𝓁ℴ 𝕎𝕠𝕣𝕝𝕕 𝟙𝟚𝟛", "ﬁnance ﬂuﬀy ﬃ", "ǅ ǈ ǋ titlecase ǅabc",
    "𐍈𐌰𐌹 𐤀𐤁 𒀀𒀁", "ꙮ Ꙁ ⳉ", "ʰʲʷ modifier ˈletters", "aªbºc ªºª", "AªB ªA Aª AAªAA", "𞤀𞤣𞤤𞤢𞤥", "ⅣⅷⅫ ½ ¾ ²³ ①②",
    "٠١٢٣٤٥ ०१२३४ ๐๑๒๓ ０１２３", "㈠㈡ ㊿ 〇 〡〢",
]
EMOJI = [
    "😀", "😀😃😄", "👨‍👩‍👧‍👦 family", "👩🏽‍💻 codes", "🏳️‍🌈🏴‍☠️", "🇩🇪🇫🇷🇯🇵", "❤️‍🔥 ❤ ♥️", "👍🏻👍🏿", "🤷‍♂️ idk", "1️⃣2️⃣#️⃣", "a😀b 😀 c",
    "🏴󠁧󠁢󠁳󠁣󠁴󠁿", "☺︎ ☺️", "🫠🫡🪿", "♠♣♥♦ ★☆ ✓✗ →⇒", "text😀\ntext", "🦙.cpp",
]
CODE = [
    "def f(x):\n    return x ** 2\n", "int main(void) {\n\tprintf(\"%d\\n\", 42);\n\treturn 0;\n}\n",
    "for (int i = 0; i < n; ++i) { a[i] += b[i] * c; }", "std::vector<std::pair<int,float>> v{{1,2.f}};",
    "SELECT * FROM t WHERE a='x' AND b<>3;", "<div class=\"a b\"><p>Hi</p></div>", "<html><body><h1>T</h1></body></html>",
    "<table><tr><td>1</td></tr></table>", "</s><s>hi</s>", "{\"a\": [1, 2.5e-3, null], \"b\": true}", "x=>x+1; y??=z?.w",
    "#include <stdio.h>\r\n#define A(x) ((x)+1)\r\n", "if [ -f \"$1\" ]; then echo ok; fi", "\\frac{a}{b} \\alpha_{i}^{2}",
    "git commit -m 'fix' && git push --force", "0xDEADBEEF 0b1010 1e-10 3.14159f 1_000_000", "lambda x: x if x else -x",
    "print('hello', end='')\n\n\nclass A:\n    pass", "camelCaseString PascalCaseString SCREAMING_CASE snake_case_x",
    "HTMLParser XMLHttpRequest iOS eBay McDonald", "/usr/local/lib/python3.11/site-packages/", "C:\\Users\\me\\file.txt",
    "// comment\n/* block */\n/// doc///\n", "a/b//c///d ///\n//\n", "||&&!!==<<>>", "$$$ %%% ^^^ &&& *** ((()))",
    "```python\nprint(1)\n```", "- item\n  - nested\n    - deep\n", "| a | b |\n|---|---|\n", "---\ntitle: x\n---\n",
    "\tif x:\n\t\treturn\n", "        eight spaces", "a  b   c    d     e", "@decorator\n@x.y(z=1)", "&amp; &lt;b&gt; &#39;",
]
BLANKS = [
    "", " ", "  ", "   ", "    ", " " * 7, " " * 16, " " * 31, " " * 32, " " * 33, " " * 100, "\n", "\n\n", "\n\n\n", "\n" * 31,
    "\n" * 32, "\n" * 40, "\t", "\t\t", "\t" * 33, "\r", "\r\n", "\r\n\r\n", "\n\r", " \n", "\n ", " \n ", "  \n  ", "\t\n\t",
    "a ", " a", "  a", "   a", "a  ", "a\n", "\na", "a\n\nb", "a \n b", "a  \n  b", "a\n  b", "a\n \n b", "a\t b", "a \tb",
    "\u00a0", "a\u00a0b", "a\u00a0\u00a0b", " \u00a0 a", "\u2003em\u2009thin\u200bzero", "\u3000ideographic\u3000space",
    "\u2028line\u2029para", "\u0085next line\u0085", "\x0bvt\x0c ff", "\u180emongolian", "\u205f\u202f\u1680x", "\ufeffbom",
    "trailing   \n\n   leading", "x \n\n\n y", "   \n1", "   1", " 1  2   3", "1 \n 2\n\n3", "\n1", "\t1", " \t \t a",
    "!  \n?", "! \n", "!\n\n a", ".\r\n\r\n.", "a.\n", "a!\n\n\nb", "/\n/", "a/\n\nb",
]
CONTROL = [
    "\x00", "a\x00b", "\x00\x00\x00", "\x01\x02\x03\x04\x05\x06\x07\x08", "\x0e\x0f\x10\x1b[31mred\x1b[0m", "\x7f", "\x80\x81\x9f",
    "\u200d\u200c\u200e\u200f", "\u202aembedded\u202c", "\u2066x\u2069", "\ufffd", "a\ufffdb", "\ufffe\uffff", "\U0010ffff",
    "\ue000private\uf8ff", "\U000f0000", "soft\u00adhyphen", "\u034fcgj", "\U000e0001tag\U000e007f",
]
MARKS = [
    "e\u0301", "cafe\u0301 cafe\u0301s", "\u0301", " \u0301", "a\u0301\u0302\u0303\u0304b", "Z\u0351\u036b\u0343a\u0329l\u0334g\u0336o\u0337",
    "\u0301\u0301A", "A\u0301B", "AB\u0301CD", "\u0301abc", " \u0301abc", "1\u0301 2", "!\u0301?", "\n\u0301", "o\u0308 \u00f6 O\u0308",
    "\u1112\u1161\u11ab", "\u0915\u094d\u0937", "\u0e01\u0e33", "\u212b \u2126 \u212a", "\u0344 \u0958",
]
WORDS = [
    "a" * 50, "a" * 257, "ab" * 100, "abc" * 67, "A" * 99, "antidisestablishmentarianism", "pneumonoultramicroscopicsilicovolcanoconiosis",
    "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft", "x" * 7 + "y" * 9 + "z" * 11,
    "我" * 60, "ж" * 77, "😀" * 40, "é" * 63, "aaaaaaab" * 20, "the" * 50, "=" * 80, "-" * 77, "." * 65, "_" * 33, "!" * 40, "<" * 50, "'" * 9,
    "\u2581", "a\u2581b", "aB" * 30, "aBªC" * 12, "qzxj" * 30, "AbCdEfGhIjKlMnOpQrStUvWxYz",
]
DIGITS = [
    "0", "12", "123", "1234", "12345", "1234567890", "3" * 41, "1,234,567.89", "2024-05-17T12:34:56Z", "+1 (555) 123-4567", "192.168.0.1",
    "v1.2.3-rc4", "1st 2nd 3rd 4th", "a1b2c3", "1a2b3c", "x1 x12 x123 x1234", " 7", "  7", "7 ", "1½2", "٣٤٥abc", "１２３４", "Ⅷ8Ⅷ", "10%", "$9.99 €5 £3 ¥7",
    "5'10\"", "1 2 3", "1  2   3", "3.14159265358979323846", "6.02e23", "#1", "1\n2\n\n3",
]
CONTRACTIONS = [
    "I'm you're he's we've they'll I'd can't", "I'M YOU'RE HE'S WE'VE THEY'LL I'D CAN'T", "'s 't 're 've 'm 'll 'd", "'S 'T 'RE 'VE 'M 'LL 'D",
    "'Re 'rE 'lL 'Ll 'vE", "'ſ a'ſ 'ſx", "it's'll'd", "''s '''t", "'sx 'tx 'rex 'vex 'mx 'llx 'dx", "rock'n'roll o'clock", "d'être l'eau",
    "’s ’t I’m you’re", "`s ´t", "' s ' t", "'r 'v 'l", "x'", "'x", "\n's", " 's", "1's 2'nd", "'s's's", "don't don'T DON'T Don't",
]
URLS = [
    "https://www.example.com/path/to?x=1&y=2#frag", "http://localhost:8080/", "ftp://user:pass@host/file.tar.gz", "mailto:a.b+c@d-e.org",
    "https://de.wikipedia.org/wiki/%C3%9C", "www.例え.jp/テスト", "file:///etc/passwd", "a@b.c @user #hashtag #日本", "://", "https://https://",
]
SPECIAL = [
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", "a<|im_end|>b", "<|im_start|><|im_end|>", "<|endoftext|>", "x <|endoftext|> y",
    "<|im_start|", "<|im_start|>>", "<<|im_start|>", "<|im_<|im_end|>start|>", "<|IM_START|>", "<bos>Hello<eos>", "<start_of_turn>user\nHi<end_of_turn>\n",
    "<bos><bos>", "<unk> <pad> <mask>", "<unused0><unused99>", "<unused1", "[multimodal]", "<s>[INST] Hi [/INST] there</s>", "<s> a </s> b", "<repo_name>x<file_sep>",
    "<|begin_of_text|><|eot_id|>", "<h1>a</h1>  \n\n  <h2>", "<start_of_image><end_of_image>", "</h1", "<0x0A>", "<0x41>b", "a<|im_end|>  b  <|im_end|>\n\n",
    "'<|im_start|>s", " <|im_end|> ", "\n<|im_end|>\n", "1<|im_end|>2", "\u0301<|im_end|>\u0301", "<h1><h1", "<eos", "eos>",
]
MIXED = [
    "Hello, world!", "Hello  World", "HELLO world HeLLo", "The capital of France is", "Once upon a time, there was a little girl named Lily.",
    "Ünïcödé mixed with ASCII and 漢字 and emoji 🎉!", "Price: $1,299.00 (20% off) → buy now!!!", "“Smart quotes” ‘single’ — dash… ellipsis",
    "«guillemets» „low“ ‚x‘", "a-b_c.d,e;f:g!h?i", "¿Qué? ¡Sí!", "foo(bar)[baz]{qux}", "  the   the    to  and     of      in a       the", "e.g. i.e. etc. Dr. Mr.", "Wait... what?! No!!! :-) ;-P <3",
    "русский English 中文 العربية", "aаaаaа", "İi Iı ß ẞ ſ", "x²+y²=z² ≠ ∞ ∑∫√", "H₂O CO₂ 10⁻³ m/s²", "℃ ℉ № ™ © ®", "A\u0300 À", "\u00c5 A\u030a \u212b",
    "line1\nline2\r\nline3\rline4", "tabs\tand\tmore\t\ttabs", "end with space ", " start with space", "a\u00a0!\u00a0b", "mañana man\u0303ana", "\u1e9b\u0323",
    "if(a&&b||c)d=e?f:g;", "AAAaaaAAA aaaAAAaaa", "Aa aA AA aa", "ÀÉÎ àéî ÀéÎ", "ЖжЖЖжж", "日本Aa語bB", "ªa ºA ʰA ʰa", "hello\u200dworld", "e\u0301E\u0301 E\u0301e\u0301",
    "w048 7tuijk dsdfhu", "нещо на Български", "កាន់តែពិសេសអាចខលចេញ", "🚀 (normal) 😶‍🌫️ (multiple emojis concatenated) ✅", "!!!!!!", "------======------",
]


def strings():
    every = SCRIPTS + EMOJI + CODE + BLANKS + CONTROL + MARKS + WORDS + DIGITS + CONTRACTIONS + URLS + SPECIAL + MIXED
    return list(dict.fromkeys(every))


def write(name, value):
    OUT.mkdir(parents=True, exist_ok=True)
    path = OUT / f"{name}.json"
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size} bytes")


# ---- pre-tokenizers, as in the tokenizer.json of the models -----------------------------------------------------------

LLAMA = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
TEKKEN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
          r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
          r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def by_regex(expression):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(expression), "isolated"),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
PRE_TOKENIZERS = {
    "gpt-2": GPT2,
    "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), GPT2]),
    "llama-bpe": by_regex(LLAMA % "{1,3}"),
    "qwen2": by_regex(LLAMA % ""),
    "tekken": by_regex(TEKKEN),
}


def splits():
    """Byte lengths of the words: the byte-level form of a word has one character for each of its bytes."""
    write("splits", {name: [[len(word) for word, _ in pre.pre_tokenize_str(s)] for s in strings()]
                     for name, pre in PRE_TOKENIZERS.items()})


# ---- tiny vocabularies ----------------------------------------------------------------------------------------------------

def training_text():
    return [s for s in MIXED + SCRIPTS + CODE + CONTRACTIONS for _ in range(4)] + ["aa aaa aaaa    b\n\n\n"] * 9


def tiny_bpe():
    trained = Tokenizer(BPE())
    trained.pre_tokenizer = PRE_TOKENIZERS["gpt-2"]
    trained.train_from_iterator(training_text(), BpeTrainer(
        vocab_size=640, special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    model = json.loads(trained.to_str())["model"]
    vocab, merges = model["vocab"], [tuple(m) for m in model["merges"]]
    for word in ["Ġhello", "123", "Ġé".replace("é", "Ã©")]:  # pieces that no merge makes: ignore_merges finds them
        vocab[word] = len(vocab)
    ids = {}
    for name, pre in PRE_TOKENIZERS.items():
        ignore = name in ("llama-bpe", "tekken")
        tok = Tokenizer(BPE(vocab=vocab, merges=merges, ignore_merges=ignore))
        tok.pre_tokenizer = pre
        tok.normalizer = normalizers.NFC() if name == "qwen2" else None
        tok.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
        ids[name] = [tok.encode(s).ids for s in strings()[::3] + SPECIAL + MARKS]
    spelled = sorted(vocab, key=vocab.get)
    write("tiny_bpe", {"tokens": spelled, "types": [3 if i < 3 else 1 for i in range(len(spelled))],
                       "merges": [" ".join(m) for m in merges], "strings": strings()[::3] + SPECIAL + MARKS, "ids": ids})


def sentencepiece_ids(proto, texts):
    import sentencepiece
    processor = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())
    return [processor.encode(s) for s in texts]


def sentencepiece_model(tokens, scores, types, prefix):
    """A SentencePiece BPE model with these pieces, so that SentencePiece itself is the judge."""
    from sentencepiece import sentencepiece_model_pb2 as pb
    proto = pb.ModelProto()
    proto.trainer_spec.model_type = pb.TrainerSpec.BPE
    proto.trainer_spec.byte_fallback = 6 in types
    proto.normalizer_spec.name = "identity"
    proto.normalizer_spec.add_dummy_prefix = prefix
    proto.normalizer_spec.remove_extra_whitespaces = False
    for token, score, kind in zip(tokens, scores, types):
        piece = proto.pieces.add()
        piece.piece, piece.score, piece.type = token, score, kind
    return proto


def tiny_spm():
    """Trained on few scripts, so that the others fall back to bytes."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2 as pb
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CODE * 4 + CONTRACTIONS * 4 + MIXED * 9), model_writer=out, model_type="bpe", vocab_size=700, byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, character_coverage=0.98, split_digits=True,
        allow_whitespace_only_pieces=True, user_defined_symbols=["\n", "\n\n", "<h1>"],
        minloglevel=2)
    proto = pb.ModelProto()
    proto.ParseFromString(out.getvalue())
    texts = strings()[1::3] + WORDS
    # Around user-defined tokens SentencePiece puts its prefix elsewhere than Hugging Face does: once, before all.
    without = [s for s in texts if "\n" not in s and "<h1>" not in s]
    proto.normalizer_spec.add_dummy_prefix = False
    plain = sentencepiece_ids(proto, texts)
    proto.normalizer_spec.add_dummy_prefix = True
    ids = {"plain": list(zip(texts, plain)), "prefix": list(zip(without, sentencepiece_ids(proto, without)))}
    write("tiny_spm", {"tokens": [p.piece for p in proto.pieces], "scores": [p.score for p in proto.pieces],
                       "types": [p.type for p in proto.pieces], "ids": ids})


# ---- real models ----------------------------------------------------------------------------------------------------------

def real_ids(tokenizer):
    texts, ids = strings(), {}
    for parse in (True, False):
        tokenizer.encode_special_tokens = not parse
        every = [tokenizer.encode(s, add_special_tokens=False).ids for s in texts]
        if parse:
            ids["special"] = every
        else:  # where it makes a difference
            ids["plain"] = {str(i): e for i, e in enumerate(every) if e != ids["special"][i]}
    return ids


def smollm2():
    """transformers 5 gives SmolLM2's GGUF a bare ByteLevel pre-tokenizer; the model's has Digits before it."""
    from transformers import AutoTokenizer
    tokenizer = AutoTokenizer.from_pretrained(ROOT / "models", gguf_file="smollm2.gguf").backend_tokenizer
    tokenizer.pre_tokenizer = PRE_TOKENIZERS["smollm"]
    write("smollm2", real_ids(tokenizer))


def gemma3():
    from transformers import AutoTokenizer
    write("gemma3", real_ids(AutoTokenizer.from_pretrained(ROOT / "models", gguf_file="gemma3.gguf").backend_tokenizer))


def llama2():
    """SentencePiece itself on Llama 2's vocabulary, whose Hugging Face tokenizer is a conversion of it."""
    from gguf import GGUFReader
    fields = GGUFReader(SHARED / "gguf-vocab" / "ggml-vocab-llama-spm.gguf").fields
    tokens, scores, types = (fields[f"tokenizer.ggml.{k}"].contents() for k in ("tokens", "scores", "token_type"))
    write("llama2", {"plain": sentencepiece_ids(sentencepiece_model(tokens, scores, types, True), strings())})


def tok512():
    """llama2.c's layout: the longest piece's bytes, then score, bytes and spelling of each piece."""
    data = (SHARED / "tok512.bin").read_bytes()
    at, tokens, scores = 4, [], []
    while at < len(data):
        score, size = struct.unpack_from("<fi", data, at)
        tokens.append(data[at + 8:at + 8 + size].decode().replace(" ", "\u2581"))
        scores.append(score)
        at += 8 + size
    types = [2, 3, 3] + [6] * 256 + [1] * (len(tokens) - 259)
    tokens[:3] = ["<unk>", "<s>", "</s>"]
    tokens[3:259] = [f"<0x{byte:02X}>" for byte in range(256)]
    write("tok512", {"plain": sentencepiece_ids(sentencepiece_model(tokens, scores, types, True), strings())})


def write_strings():
    write("strings", strings())


if __name__ == "__main__":
    makers = {"strings": write_strings, "splits": splits, "tiny_bpe": tiny_bpe, "tiny_spm": tiny_spm, "smollm2": smollm2,
              "gemma3": gemma3, "llama2": llama2, "tok512": tok512}
    for chosen in sys.argv[1:] or makers:
        makers[chosen]()
