# SPDX-License-Identifier: Apache-2.0
"""Sections of docs/results.md on the layers axis: KVSharer and LCKV, beside docs/layers.md. MiniCache's is in results_minicache.py."""
import re

from layers_tables import MODELS, PERCENTS, SEEDS, table
from results_read import CALIBRATION, TEXT, borne, command, listed, rows_of, section_of, span, table_in

LAYERS = "docs/layers.md"

# ---- KVSharer (arXiv 2410.18517) -------------------------------------------------------------------------------------

# Perplexity of 200 texts of Wikipedia, full cache and 25 % shared, of chat models; random pairs at 25 %, means of three.
CHAT = {"Llama2-7B": (6.62, 9.39), "Llama2-13B": (5.99, 9.11), "InternLM2-7B": (6.99, 9.78), "InternLM2-20B": (5.67, 7.05)}
RANDOM = [21.29, 51.41, 13.58, 18.50]
BASE = [5.25, 4.32, 7.27, 5.13]  # the full cache's of the base models
LLAMA_70B = {"full": 4.25, "12.5%": 5.59, "25%": 7.01}
# Table 2, Llama2-13B-Chat on A100: MB of all memory and tokens/s generated, full cache and 25 % shared.
SPEED = {"512+32": (28461, 28257, 11.0, 13.9), "256+2048": (36095, 31403, 18.0, 29.8), "512+2048": (51639, 37049, 18.2, 30.0),
         "1024+4096": (58177, 37231, 18.7, 28.7)}

ORDERS = {"dissimilar": ("dissimilar (the paper)", ""), "similar": ("similar", "--order similar"),
          "random, mean of 3": ("random, seed {}", "--order random --seed SEED"),
          "by KL": ("by KL", "--objective kl"), "beam": ("beam", "--objective beam")}
SEARCH = command("search kvsharer", f"--calibration {CALIBRATION} --share 25% -o map.json")
PERPLEXITY = command("eval ppl", f'-f {TEXT} -c 512 --windows 8 --kv "full;kvsharer(map=map.json)"')
GRID_SPEED = command("bench", '-p 0 -n 4096 -d 1024 -r 1 --kv "full;kvsharer(map=map.json)"')


def published_ratios(percent):
    """Perplexity over that of the full cache; at 37.5 % the paper has a figure without numbers."""
    found = [shared / full for full, shared in CHAT.values()] if percent == "25%" else []
    return found + ([LLAMA_70B[percent] / LLAMA_70B["full"]] if percent in LLAMA_70B else [])


def published_random():
    return [ppl / full for ppl, (full, _) in zip(RANDOM, CHAT.values(), strict=True)]


def names_of(percent, order):
    """Its rows in docs/layers.md."""
    name = f"{percent} {ORDERS[order][0]}"
    return [name.format(seed) for seed in SEEDS] if "{}" in name else [name]


def ratio_of(title, percent, order):
    found = {name: float(row["ppl, one prompt"]) for name, row in rows_of(LAYERS, f"KVSharer on {title}").items()}
    names = names_of(percent, order)
    return sum(found[name] for name in names) / len(names) / found["full"]


def shared_counts(title):
    """{row: layers that its map shares}; the search may run out of pairs that pass its threshold."""
    return {name: pairs.count("←") for name, pairs in re.findall(r"^- (.*?): (.*)$", section_of(LAYERS, f"KVSharer on {title}"), re.M)}


def ratio_cell(title, percent, order, counts):
    asked = max(n for name, n in counts.items() if name.startswith(f"{percent} "))
    shared = [counts[name] for name in names_of(percent, order)]
    return f"{ratio_of(title, percent, order):.2f}" + (f" ({span(shared, 0)} of {asked})" if min(shared) < asked else "")


def kvsharer_table():
    body = []
    for percent in PERCENTS:
        published = published_ratios(percent)
        for title in MODELS.values():
            counts = shared_counts(title)
            body.append([percent, span(published) if published else "a figure only", title,
                         *[ratio_cell(title, percent, order, counts) for order in ORDERS]])
    return table(["layers that share", "published, dissimilar", "model", *ORDERS], body)


def grid():
    """{prompt + generated: (MiB full, MiB 25 %, tokens/s full, tokens/s 25 %)} of SmolLM2."""
    found = {}
    for row in table_in(section_of(LAYERS, "KVSharer: the paper's grid of memory and speed")):
        found.setdefault(row["tokens"], {})[row["layers shared"]] = row
    cells = lambda rows, column: [float(rows[share][column]) for share in ("full", "25 %")]
    return {tokens: (*cells(rows, "MiB of cache"), *cells(rows, "decode t/s")) for tokens, rows in found.items()}


def gains(figures):
    return [fast / slow for *_, slow, fast in figures.values()]


def speed_at_4096(title):
    """Decoding with 25 % shared in the paper's order, beside the dense cache."""
    return float(rows_of(LAYERS, f"KVSharer on {title}")["25% dissimilar (the paper)"]["of full"])


def speed_table():
    body = []
    for tokens, (mb, mb_shared, slow, fast) in SPEED.items():
        here = grid()[tokens]
        body.append([tokens, f"{mb} → {mb_shared}", f"{slow} → {fast}", f"{fast / slow:.2f}", f"{here[0]} → {here[1]}",
                     f"{here[2]} → {here[3]}", f"{here[3] / here[2]:.2f}"])
    return table(["prompt + generated", "published, MB of all memory", "published, tokens/s", "times", "SmolLM2, MiB of cache",
                  "SmolLM2, tokens/s", "times"], body)


def kvsharer_speed():
    mb, mb_shared, *_ = SPEED["1024+4096"]
    held = [shared / full for full, shared, *_ in grid().values()]
    small, large = MODELS.values()
    other = rows_of("docs/tokens.md", "Speed on SmolLM2-135M", -1)["KVSharer 25 %"]
    return ("### Speed at 25 %\n\n" + speed_table() +
            f"\n{SEARCH}, then {GRID_SPEED}, and so on. Published: the paper's Table 2, Llama2-13B-Chat.\n\n" +
            borne(f"*Disagrees*: {span(gains(grid()))} times here, {span(gains(SPEED))} published. ", max(gains(grid())) < min(gains(SPEED))) +
            f"After 4096 tokens it is {speed_at_4096(small):.2f} on {small} and {speed_at_4096(large):.2f} on {large} (docs/layers.md). Shared rows "
            "are read by each layer all the same; what is spared is that keys and values are computed and stored. By bytes read the gain would be "
            f"{other['bound']} (docs/tokens.md, which has {other['of full']} with another map): what is more we cannot explain, and rounds on this "
            f"machine differ by as much. The cache holds {span(held)} of the dense cache's bytes, as 22 of 30 layers do.\n\n"
            f"The published gain cannot come from sharing: at 1024+4096 all memory, weights included, falls by {100 * (1 - mb_shared / mb):.0f} %, "
            "where sharing a quarter of the layers frees at most a quarter of the cache. In the published code a cache with shared layers "
            "overwrites rows of the top layers while it generates, so that it holds and reads fewer.\n")


def kvsharer_disagrees():
    small, large = MODELS.values()
    base = [ppl / full for ppl, full in zip(RANDOM, BASE, strict=True)]
    ratios = {(title, p): {order: ratio_of(title, p, order) for order in ORDERS} for title in MODELS.values() for p in PERCENTS}
    worst = all(found["dissimilar"] > max(found["similar"], found["random, mean of 3"]) for found in ratios.values())
    by_output = [min(found["by KL"], found["beam"]) < min(found["dissimilar"], found["similar"], found["random, mean of 3"])
                 for (title, p), found in ratios.items() if title == small or p != "37.5%"]
    return (f"*Disagrees.* For random pairs at 25 % the paper has {span(published_random(), 1)} (our notes of it do not say whether of the chat "
            f"models; of the base models it is {span(base, 1)}), and for similar pairs first about twice the perplexity, its Figure 6: dissimilar "
            "layers would be the ones to share. " +
            borne("Here they are the worst of the three orders at every share of both models, on Gemma 3 with fewer layers shared. ", worst) +
            "Its 25 and 37.5 % have the same maps but in the last two columns, since no more pairs pass the threshold. " +
            borne("Choosing by the model's output (by KL, beam) is better than any distance at every share of SmolLM2, and at 12.5 and 25 % of Gemma "
                  "3; at 37.5 % it shares all seven layers, and the others three to five. ", all(by_output)) +
            "On SmolLM2 the paper's order takes layers 9 to 11 for sources, those that cost less mostly layer 0 (docs/layers.md lists the maps). "
            "That models of 32 to 80 layers have more to spare than those of 30 and 18 is a guess; none of that size is measured here.\n\n")


def kvsharer():
    options = listed([f"{order.split(',')[0]} `{option}`" for order, (_, option) in ORDERS.items() if option])
    return ("## KVSharer: perplexity over that of the full cache\n\n" + kvsharer_table() +
            "\nIn brackets: layers shared, where the search ran out of pairs before it had as many as were asked for.\n\n"
            f"{SEARCH} for dissimilar pairs first, with `--share` as in the row; {options} (SEED: {listed([str(s) for s in SEEDS])}). Then "
            f"{PERPLEXITY}. Published: four chat models of 7 to 20 billion parameters, on Wikipedia, and Llama2-70B.\n\n" +
            kvsharer_disagrees() + kvsharer_speed())


# ---- LCKV (arXiv 2405.10637) -----------------------------------------------------------------------------------------

# Table 1, models of random weights, prompt + generated tokens: largest batch and tokens/s of the plain model, w = 2, w = 10.
LCKV = {"1.1B on RTX 3090, 5+8187": ((48, 1424.96), (384, 4113.37), (119, 2374.05)),
        "1.1B on RTX 3090, 5+2043": ((239, 5142.86), (1150, 10033.40), (289, 7239.92)),
        "7B on A100, 2048+2048": ((15, 141.10), (128, 421.02), (42, 315.09)),
        "30B on A100, 2048+2048": ((1, 14.10), (32, 108.29), (8, 77.65)),
        "30B on RTX 3090, weights in main memory, 512+1024": ((4, 0.23), (83, 5.99), (23, 1.63))}
# Table 10, A100, 2048+2048: tokens/s in batches of 15 or 16 (7B) and of 1 (30B).
LCKV_EQUAL = {"7B on A100, 2048+2048": (141.10, 367.56, 249.32), "30B on A100, 2048+2048": (14.10, 20.25, 19.14)}
SHAPES = {"tiny": ("LCKV's 50M", 1024, 8), "tinyllama": ("TinyLlama's 1.1B", 256, 22)}  # title, depth, layers
LCKV_MEMORY = command("bench", '--kv-budget 32MB -c 256 -n 16 --force --kv "full;lckv(w=2);lckv(w=10)"')
LCKV_BATCH = command("bench", '-p 0 -n 16 -d 256 -np 4 -r 2 --force --kv "full;lckv(w=2);lckv(w=10)"')


def lckv_measured(shape):
    """{map: (sequences that fit, their tokens/s beside plain's that fit, 4 sequences beside 4 plain ones, prompt)}."""
    rows = rows_of(LAYERS, "LCKV on random weights", list(SHAPES).index(shape))
    prompt = {name: float(row["prompt 512 t/s"]) / float(rows["plain"]["prompt 512 t/s"]) for name, row in rows.items()}
    return {name: (int(row["sequences in 32MB"]), float(row["of plain 2"]), float(row["of plain"]), prompt[name])
            for name, row in rows.items()}


def lckv_rows():
    body = []
    for name, (plain, *folded) in LCKV.items():
        for i, (w, (batch, rate)) in enumerate(zip((2, 10), folded, strict=True), 1):
            equal = LCKV_EQUAL.get(name)
            body.append([f"published: {name}", f"w={w}", f"{plain[0]} → {batch}", f"{batch / plain[0]:.1f}", f"{rate / plain[1]:.1f}",
                         f"{equal[i] / equal[0]:.1f}" if equal else "", ""])
    for shape, (title, depth, layers) in SHAPES.items():
        found = lckv_measured(shape)
        for name, (fit, all_of_them, equal, prompt) in found.items():
            if name != "plain":
                body.append([f"here: {title} ({layers} layers), {depth} tokens", name, f"{found['plain'][0]} → {fit}",
                             f"{fit / found['plain'][0]:.1f}", f"{all_of_them:.2f}", f"{equal:.2f}", f"{prompt:.2f}"])
    return body


def lckv():
    batches = {(row["spec"], row["sequences"]): row["tokens/s, all"]
               for row in table_in(section_of(LAYERS, "MiniCache: bytes and throughput against batch size"))}
    here = [row for row in lckv_rows() if row[0].startswith("here")]
    return ("## LCKV: memory and throughput\n\n" +
            table(["model", "map", "sequences that fit", "times", "tokens/s of all that fit, times", "of equal batches, times",
                   "prompt's tokens/s, times"], lckv_rows()) +
            f"\n`tools/random_model.py tinyllama MODEL` makes the model, {LCKV_MEMORY} fills 32 MB, {LCKV_BATCH} takes four sequences each. "
            "Published: the paper's Tables 1 and 10. SmolLM2 and Gemma 3 are not models for these maps: layers that read upwards want to be "
            "trained so.\n\n"
            f"*Agrees* in memory: of TinyLlama's 22 layers w=2 stores 3 and w=10 eleven, and {here[1][2]} and {here[2][2]} sequences fit; whole "
            "sequences and blocks round that.\n\n" +
            borne(f"*Disagrees* in throughput: {listed([row[4] for row in here])} times with all that fit, {listed([row[5] for row in here])} in "
                  "equal batches. ", max(float(row[4]) for row in here) < 1.4) +
            "The paper's gains are a GPU's, whose larger batches share the weights' way from memory, at 26 times the way from main memory. Two cores "
            f"reach their arithmetic's limit early: of SmolLM2's dense cache after 512 tokens they decode {batches['full', '4']}, "
            f"{batches['full', '16']} and {batches['full', '32']} tokens a second in batches of 4, 16 and 32, and {batches['k4v4', '32']} with k4v4, "
            "a third of the bytes (docs/layers.md). In equal batches four times 256 tokens of TinyLlama are 23 MB of rows beside some 600 MB of "
            "weights, so fewer rows cannot show; with 1024 tokens beside the small model they do. The prompt pays, here as there: it runs nine times "
            "through the layers that share.\n")
