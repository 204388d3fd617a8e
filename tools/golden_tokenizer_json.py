# SPDX-License-Identifier: Apache-2.0
"""Makes tests/golden/tokenizer_json: tokenizer.json files of the shapes that models have, around small vocabularies, and
what Hugging Face's tokenizers make of some 70 texts with them.

    .venv/bin/pip install tokenizers
    .venv/bin/python tools/golden_tokenizer_json.py
"""
import copy
import json
from pathlib import Path

from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from golden_tokenizer import CODE, CONTRACTIONS, LLAMA, MIXED, SCRIPTS, TEKKEN

OUT = Path(__file__).resolve().parent.parent / "tests" / "golden" / "tokenizer_json"
META = "\u2581"

TEXTS = [
    "", " ", "  ", "   a", "a ", "a  ", "Hello, world!", " Hello  World", "The capital of France is Paris.", "\n", "\n\n\n", "\t\t", "\r\n", "a\n\nb", " \n ",
    "a \n  b\n", "tabs\tand\t\ttabs", "   \n1", "0", "1234567", "12 345 6", "1,234,567.89", "v1.2.3-rc4", " 7", "3.14e-10", "٣٤٥abc", "½ ² Ⅷ",
    "I'm you're HE'S we'LL it's'll'd", "''s", "e\u0301 cafe\u0301 \u00e9", "\u212b \u1112\u1161\u11ab", ">\u0338 x", "Größe, Übermut", "Съешь ещё этих", "你好，世界！",
    "こんにちは", "안녕하세요", "नमस्ते", "שלום", "👨‍👩‍👧‍👦 family 😀😀", "🇩🇪❤️‍🔥", "\x00a\x01", "\u200d\ufeff\u00a0x\u3000y", "\ufffd", "\U0010ffff\ue000", META, "a" + META + "b", META + " a",
    " " + META, "<|a|>", "x<|a|>y", " <|a|> y", "<|a|><|b|>", "<|a|", "<<|a|>>", "<s>Hi</s>", " <s> a </s> b", "<s><s>", "<0x41>", "<unk>", "<unk>x", "x <left> y", "x  <right>  y\n<right>z",
    "\u3000<left>\u3000<right>\u3000", "<left><right> <left>", "[tool] x[tool]", "  [tool]", "<|a|>[tool]", "[to<|b|>ol]<|b|>x", "aaaaaaaaa aaaaaaa", "a" * 100, "the" * 30, "  the   the    to  and", "ab" * 33 + " " + "ba" * 20,
    "def f(x):\n    return x ** 2\n", "{\"a\": [1, 2.5e-3, null]}", "https://www.example.com/p?x=1&y=2#frag", "!!!??? ...", "qzxj QZXJ", "Zażółć gęślą", " ".join(["word"] * 12), "aaa aa a aaaa", "x" * 40 + "日本" * 9,
]


def added(token, text, special=True, **flags):
    return {"id": token, "content": text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": not special, "special": special, **flags}


def trained(pre, size, special, alphabet, limit=1000):
    tok = Tokenizer(BPE())
    tok.pre_tokenizer = pre
    text = [s for s in MIXED + SCRIPTS + CODE + CONTRACTIONS for _ in range(3)] + ["aa aaa aaaa  aaaaa the the"] * 9
    tok.train_from_iterator(text, BpeTrainer(vocab_size=size, special_tokens=special, show_progress=False, initial_alphabet=alphabet, limit_alphabet=limit))
    return json.loads(tok.to_str())


# ---- byte level ---------------------------------------------------------------------------------------------------------
GPT2 = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
BYTES = {**GPT2, "use_regex": False}


def split(regex):
    return {"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}, BYTES]}


def template(before=None, behind=None):
    def item(token):
        return [{"SpecialToken": {"id": token[0], "type_id": 0}}] if token else []
    return {"type": "TemplateProcessing", "single": item(before) + [{"Sequence": {"id": "A", "type_id": 0}}] + item(behind), "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {t[0]: {"id": t[0], "ids": [t[1]], "tokens": [t[0]]} for t in (before, behind) if t}}


def byte_level():
    base = trained(pre_tokenizers.ByteLevel(add_prefix_space=False), 600, ["<|a|>"], pre_tokenizers.ByteLevel.alphabet())
    vocab = base["model"]["vocab"]
    for word in ("Ġhello", "123", "ĠParis"):  # pieces that no merge makes: ignore_merges finds them
        vocab[word] = len(vocab)
    n = len(vocab)
    base.update({"pre_tokenizer": GPT2, "decoder": GPT2, "post_processor": GPT2})
    base["added_tokens"] = [added(0, "<|a|>"), added(n, "<|b|>"), added(n + 1, "<s>"), added(n + 2, "</s>"), added(n + 3, "<left>", lstrip=True),
                            added(n + 4, "<right>", rstrip=True), added(n + 5, "[tool]", special=False)]
    bos, eos = ("<s>", n + 1), ("</s>", n + 2)
    return base, {
        "gpt2": {},
        "smollm2": {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, GPT2]}, "post_processor": None},
        "llama3": {"pre_tokenizer": split(LLAMA % "{1,3}"), "model": {"ignore_merges": True}, "post_processor": {"type": "Sequence", "processors": [GPT2, template(bos)]}},
        "qwen2.5": {"normalizer": {"type": "NFC"}, "pre_tokenizer": split(LLAMA % ""), "post_processor": {**BYTES, "trim_offsets": False},
                    "added_tokens": [{**t, "normalized": False} for t in base["added_tokens"]]},
        "tekken": {"pre_tokenizer": split(TEKKEN), "model": {"ignore_merges": True}, "post_processor": template(bos, eos)},
    }


# ---- characters ---------------------------------------------------------------------------------------------------------
def all_splits(vocab):
    """The merges as transformers makes them of a SentencePiece vocabulary: each way to put a piece together."""
    merges = []
    for piece in vocab:
        ways = [(piece[:i], piece[i:]) for i in range(1, len(piece)) if piece[:i] in vocab and piece[i:] in vocab]
        merges += sorted(ways, key=lambda way: (vocab[way[0]], vocab[way[1]]))
    return merges


PREPEND, REPLACE = {"type": "Prepend", "prepend": META}, {"type": "Replace", "pattern": {"String": " "}, "content": META}
BACK = {"type": "Replace", "pattern": {"String": META}, "content": " "}
STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}


def metaspace(scheme, is_split):
    return {"type": "Metaspace", "replacement": META, "prepend_scheme": scheme, "split": is_split}


def characters():
    special = ["<unk>", "<s>", "</s>"]
    base = trained(pre_tokenizers.Metaspace(prepend_scheme="always"), 430, special, [], 120)
    learned = [t for t in base["model"]["vocab"] if t not in special]
    learned += [t for t in (META * 2, META * 4, "a" + META, "aaa", "aaaaa", META + "aa") if t not in learned]
    order = special + [f"<0x{byte:02X}>" for byte in range(256)] + learned
    vocab = {t: i for i, t in enumerate(order)}
    n = len(vocab)
    base["model"].update({"vocab": vocab, "merges": all_splits({t: vocab[t] for t in learned}), "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True})
    base["added_tokens"] = [added(0, "<unk>"), added(1, "<s>"), added(2, "</s>"), added(n, "<|a|>"), added(n + 1, "<|b|>"), added(n + 2, "<left>", lstrip=True),
                            added(n + 3, "<right>", rstrip=True), added(n + 4, "[tool]", special=False, normalized=False)]
    bos, eos = ("<s>", 1), ("</s>", 2)
    base.update({"normalizer": {"type": "Sequence", "normalizers": [PREPEND, REPLACE]}, "pre_tokenizer": None, "post_processor": template(bos),
                 "decoder": {"type": "Sequence", "decoders": [BACK, {"type": "ByteFallback"}, {"type": "Fuse"}, STRIP]}})
    late = [{**t, "normalized": not t["special"]} for t in base["added_tokens"]]
    without_bytes = {"byte_fallback": False}
    return base, {
        "llama2": {},
        "llama2-first": {"normalizer": None, "pre_tokenizer": metaspace("first", False), "added_tokens": late, "post_processor": template(bos, eos)},
        "always-split": {"normalizer": None, "pre_tokenizer": metaspace("always", True), "model": without_bytes},
        "never-single-unk": {"normalizer": None, "pre_tokenizer": metaspace("never", False), "model": {**without_bytes, "fuse_unk": False},
                             "decoder": {"type": "Sequence", "decoders": [BACK, {"type": "ByteFallback"}, {"type": "Fuse"}]}},
        "fused-unk": {"model": without_bytes},
        "gemma": {"normalizer": REPLACE, "pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False},
                  "decoder": {"type": "Sequence", "decoders": [BACK, {"type": "ByteFallback"}, {"type": "Fuse"}]}},
    }


# ---- expected values ------------------------------------------------------------------------------------------------------
def patched(base, patch):
    out = copy.deepcopy(base)
    for key, value in patch.items():
        if key == "model":
            out["model"].update(value)
        else:
            out[key] = value
    return out


def expected(base, patch):
    """The patch, and what the tokenizer says: ids with control tokens, the ids without where they differ, decoded text."""
    tok = Tokenizer.from_str(json.dumps(patched(base, patch)))
    ids = [tok.encode(s, add_special_tokens=False).ids for s in TEXTS]
    framed = tok.encode("Hello", add_special_tokens=True).ids
    decoded = {str(i): d for i, d in enumerate(tok.decode(e) for e in ids) if d != TEXTS[i]}
    tok.encode_special_tokens = True
    plain = {str(i): p for i, p in enumerate(tok.encode(s, add_special_tokens=False).ids for s in TEXTS) if p != ids[i]}
    return {"patch": patch, "ids": ids, "plain": plain, "decoded": decoded, "framed": framed}


def write(name, value):
    path = OUT / f"{name}.json"
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")
    print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    write("texts", TEXTS)
    for name, (base, patches) in (("byte_level", byte_level()), ("characters", characters())):
        write(name, {"tokenizer": base, "variants": {variant: expected(base, patch) for variant, patch in patches.items()}})
