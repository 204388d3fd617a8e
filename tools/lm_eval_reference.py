#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What lm-evaluation-harness makes of multiple-choice tasks, for `lamina eval choice` to be compared with.

Needs `pip install lm-eval torch transformers accelerate gguf` (for making goldens only; no test and no build needs them).

  lm_eval_reference.py [NAME…]               tests/golden/lm_eval/requests.json and NAME.json
  lm_eval_reference.py --check NAME LAMINA   runs the program on the real data, against NAME.json

NAME is tiny-llama (tests/golden/tiny/llama-gqa.gguf, in float64), smollm2 or gemma3 (models/NAME.gguf, de-quantised to float32);
default all. requests.json holds what the harness asks of a model: of each task, with that many shots, [item][choice] context and
continuation. The questions are those of tests/golden/lm_eval/data; with shots the first of them are the examples. NAME.json holds
the log-likelihoods of each choice and the accuracies: "made_up" of the same questions and, of smollm2, "real" of the first 200 items
of the files of ../shared/data, which are not copied here. The harness downloads nothing: its own task configurations are told to
read these files.
"""

import argparse
import json
import logging
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests/golden/lm_eval"
DATA = ROOT.parent / "shared/data"
TASKS = {  # task -> the harness's configuration of it
    "piqa": "piqa/piqa.yaml", "winogrande": "winogrande/default.yaml", "arc_easy": "arc/arc_easy.yaml",
    "arc_challenge": "arc/arc_challenge.yaml", "hellaswag": "hellaswag/hellaswag.yaml", "boolq": "super_glue/boolq/default.yaml",
    "openbookqa": "openbookqa/openbookqa.yaml", "copa": "super_glue/copa/default.yaml", "commonsenseqa": "commonsense_qa/default.yaml"}
SHOTS = [0, 2]
REAL = {  # task -> file of the shared data
    "piqa": "piqa/valid.jsonl", "arc_easy": "arc/ARC-Easy-Dev.jsonl", "arc_challenge": "arc/ARC-Challenge-Dev.jsonl",
    "winogrande": "winogrande/winogrande_dev_sample1000.jsonl"}
REAL_ITEMS = 200
NAMES = ["tiny-llama", "smollm2", "gemma3"]


# ---- data, as Hugging Face has it -------------------------------------------------------------------------------------


def arc(line):
    question = line["question"]
    return dict(id=line["id"], question=question["stem"], answerKey=line["answerKey"], choices=dict(
        text=[c["text"] for c in question["choices"]], label=[c["label"] for c in question["choices"]]))


def winogrande(line):
    first, second = line["context_options"]
    same = next((i for i, (a, b) in enumerate(zip(first, second)) if a != b), min(len(first), len(second)))
    return dict(sentence=f"{first[:same]}_ {line['continuation']}", option1=first[same:], option2=second[same:],
                answer=str(line["gold"] + 1))


def real_lines(task):
    path = DATA / REAL[task]
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()][:REAL_ITEMS]
    if task == "piqa":
        labels = path.with_name("valid-labels.lst").read_text().split()
        return [dict(line, label=int(label)) for line, label in zip(lines, labels)]
    return [(winogrande if task == "winogrande" else arc)(line) for line in lines]


def made_up_lines(task):
    return [json.loads(line) for line in (GOLDEN / f"data/{task}.jsonl").read_text(encoding="utf-8").splitlines()]


# ---- the harness ------------------------------------------------------------------------------------------------------


def load_task(task, questions, examples, folder):
    """Their task on our lines: a configuration that includes theirs."""
    import lm_eval.tasks

    files = {}
    for split, lines in [("validation", questions), ("train", examples or questions)]:
        files[split] = str(Path(folder) / f"{split}.jsonl")
        Path(files[split]).write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = dict(include=str(Path(lm_eval.tasks.__file__).parent / TASKS[task]), task="ours", dataset_path="json", dataset_name=None,
                  dataset_kwargs=dict(data_files=files, cache_dir=folder), training_split="train", validation_split="validation",
                  test_split=None, fewshot_split="train", fewshot_config=dict(sampler="first_n"), num_fewshot=len(examples),
                  metric_list=[dict(metric=metric, aggregation="mean", higher_is_better=True) for metric in ("acc", "acc_norm")])
    (Path(folder) / "ours.yaml").write_text(json.dumps(config))  # JSON is YAML
    return lm_eval.tasks.TaskManager(include_path=folder, include_defaults=False).load("ours")


def evaluate(model, task, questions, examples):
    """Their samples, in the order of the questions, and their accuracies."""
    from lm_eval import evaluator

    with tempfile.TemporaryDirectory() as folder:
        results = evaluator.evaluate(model, load_task(task, questions, examples, folder), log_samples=True, bootstrap_iters=0)
    samples = sorted(results["samples"]["ours"], key=lambda sample: sample["doc_id"])
    assert len(samples) == len(questions), (task, len(samples))
    scores = results["results"]["ours"]
    return samples, dict(accuracy=scores["acc,none"], accuracy_norm=None if task == "winogrande" else scores["acc_norm,none"])


def likelihoods(samples):
    return [[round(float(response[0][0]), 4) for response in sample["resps"]] for sample in samples]


def tiny_tokenizer():
    from golden_hf import write_tokenizer
    from transformers import PreTrainedTokenizerFast

    with tempfile.TemporaryDirectory() as folder:
        write_tokenizer(Path(folder))
        return PreTrainedTokenizerFast(tokenizer_file=f"{folder}/tokenizer.json", bos_token="<|endoftext|>", eos_token="<|im_end|>")


def load_model(name):
    import torch
    from golden_logits import load_model as load_real
    from golden_logits import smollm_tokenizer
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

    if name == "tiny-llama":
        model = AutoModelForCausalLM.from_pretrained(ROOT / "tests/golden/tiny", gguf_file="llama-gqa.gguf", dtype=torch.float64,
                                                     attn_implementation="eager").eval()
        tokenizer = tiny_tokenizer()
    elif name == "smollm2":
        model = load_real(name)
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=smollm_tokenizer(), bos_token="<|im_start|>", eos_token="<|im_end|>")
    else:
        model, tokenizer = load_real(name), AutoTokenizer.from_pretrained(ROOT / "models", gguf_file=f"{name}.gguf")
    torch.set_num_threads(1)  # beside other work two wait for each other: an hour instead of ten minutes
    return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1, device="cpu")


def write_json(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False).replace('"log_likelihoods"', '\n"log_likelihoods"') + "\n")
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size} bytes", file=sys.stderr)


def make(name):
    model = load_model(name)
    requests, made_up, real = {}, {}, {}
    for task in TASKS:
        lines = made_up_lines(task)
        for shots in SHOTS:
            samples, accuracy = evaluate(model, task, lines[shots:], lines[:shots])
            made_up.setdefault(task, {})[shots] = dict(accuracy, log_likelihoods=likelihoods(samples))
            requests.setdefault(task, {})[shots] = [[list(pair) for pair in sample["arguments"]] for sample in samples]
    for task in REAL if name == "smollm2" else []:
        samples, accuracy = evaluate(model, task, real_lines(task), [])
        real[task] = dict(items=len(samples), **accuracy, log_likelihoods=likelihoods(samples))
        print(f"{name}: {task} {accuracy}", file=sys.stderr)
    write_json(GOLDEN / "requests.json", requests)
    write_json(GOLDEN / f"{name}.json", dict(
        name=name, source=f"lm-eval {version('lm-eval')} on transformers, {'float64' if name == 'tiny-llama' else 'float32'}",
        made_up=made_up, real=real))


# ---- the comparison ---------------------------------------------------------------------------------------------------


def check(name, program):
    """True if accuracies on the real data agree within one item per hundred, of the dense caches in f16 and in float32."""
    golden, agrees = json.loads((GOLDEN / f"{name}.json").read_text()), True
    for task, theirs in golden["real"].items():
        with tempfile.NamedTemporaryFile() as items:
            line = [program, "eval", "choice", "-m", ROOT / f"models/{name}.gguf", "--task", task, "--data", DATA / REAL[task],
                    "--limit", theirs["items"], "--items", items.name, "--kv", "full;f32", "-o", "json"]
            rows = json.loads(subprocess.run(list(map(str, line)), stdout=subprocess.PIPE, check=True).stdout)
            lines = [json.loads(line) for line in Path(items.name).read_text().splitlines()]
        for row in rows:
            own = [line for line in lines if line["kv_spec"] == row["kv_spec"]]
            agrees = compare(f"{name} {task} {row['kv_spec']}", row, own, theirs) and agrees
    return agrees


def compare(what, row, lines, theirs):
    pairs = list(zip([line["log_likelihoods"] for line in lines], theirs["log_likelihoods"], strict=True))
    apart = [abs(a - b) for ours, golden in pairs for a, b in zip(ours, golden, strict=True)]
    same = sum(line["chosen"] == golden.index(max(golden)) for line, (_, golden) in zip(lines, pairs))
    agrees = True
    for key in ("accuracy", "accuracy_norm"):
        within = theirs[key] is None or abs(row[key] - theirs[key]) <= 0.01 + 1e-9
        agrees = agrees and within
        print(f"{what}: {key} {row[key]:.4f}, lm-eval {theirs[key]}{'' if within else ' DISAGREES'}")
    print(f"{what}: {same} of {len(lines)} items choose the same; log-likelihoods apart by {sum(apart) / len(apart):.4f} on average, "
          f"at most {max(apart):.4f}", flush=True)
    return agrees


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", default=NAMES, help=", ".join(NAMES))
    parser.add_argument("--check", nargs=2, metavar=("NAME", "LAMINA"), help="compare the program with a golden")
    args = parser.parse_args()
    if args.check:
        sys.exit(0 if check(*args.check) else 1)
    logging.disable(logging.WARNING)
    for name in args.names:
        make(name)


if __name__ == "__main__":
    main()
