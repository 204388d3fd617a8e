# SPDX-License-Identifier: Apache-2.0
"""What the sections of docs/results.md are written with: figures read from measured tables, commands, plots."""
import re

from layers_tables import ROOT
from plots import plot

TEXT = "../shared/data/wikitext-2/valid.txt"
CALIBRATION = "../shared/data/calibration/wiki_demo.txt"


def section_of(document, title):
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", (ROOT / document).read_text(), re.M | re.S)
    assert found, f'{document} has no section "{title}"'
    return found[1]


def table_in(text, nth=0):
    """[{column: cell}] of the nth table of a text; a column's name that stands there again is numbered: "of plain 2"."""
    lines = re.findall(r"(?:^\|.*\n)+", text, re.M)[nth].splitlines()
    head, *body = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if not line.startswith("|-")]
    names = [name if head.index(name) == i else f"{name} {head[:i + 1].count(name)}" for i, name in enumerate(head)]
    return [dict(zip(names, row, strict=True)) for row in body]


def rows_of(document, title, nth=0):
    """{first cell: {column: cell}} of the nth table of a section."""
    return {next(iter(row.values())): row for row in table_in(section_of(document, title), nth)}


def command(verb, options=""):
    """MODEL and SPEC are explained in the head."""
    return f"`lamina {verb} -m MODEL {options}`"


def decoded(prompt, windows, spec="SPEC"):
    return command("eval ppl", f'-f {TEXT} --prompt {prompt} --score 128 --windows {windows} --base full --kv "{spec}"')


def span(values, digits=2):
    """From the least to the greatest."""
    low, high = (f"{x:.{digits}f}" for x in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def listed(words):
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def slashed(values, digits=2):
    return " / ".join(f"{x:.{digits}f}" for x in values)


def times(ratio):
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}"


def borne(text, holds):
    """Prose that figures must bear: measured anew they may say something else, then it is to be written anew."""
    assert holds, f"the figures no longer say: {text}"
    return text


def draw(name, *args, **options):
    (ROOT / f"docs/plots/{name}.svg").write_text(plot(*args, **options))
    return f"![{args[0]}](plots/{name}.svg)\n"
