# SPDX-License-Identifier: Apache-2.0
"""Plots of docs/ as SVG, drawn for a page that is light or dark: axes and text take its colour."""
import math
from html import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 360, 64, 150, 28, 44
COLOURS = ["#3b7dd8", "#d9772b", "#3a9d5d", "#a259c4", "#c23b4b", "#7a7a7a"]
STYLE = ("<style>text{font:12px sans-serif;fill:#333}.small{font-size:10px}.axis{stroke:#777;fill:none}.grid{stroke:#7773}"
         "@media(prefers-color-scheme:dark){text{fill:#ddd}}</style>")


def number(x):
    return f"{x:.3g}" if x < 1000 else f"{x:,.0f}"


def ticks(low, high, log):
    if log:
        return [b * 10**e for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1) for b in (1, 2, 5)
                if low <= b * 10**e <= high]
    step = 10**math.floor(math.log10(high - low))
    step = next(s for s in (step / 5, step / 2, step, 2 * step) if (high - low) / s <= 7)
    return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


class Axis:
    def __init__(self, values, start, end, log):
        low, high = min(values), max(values)
        if log:
            low, high = low / 1.25, high * 1.25
        else:
            margin = (high - low or 1) * 0.06
            low, high = (0 if 0 <= low <= (high - low) * 0.3 else low - margin), high + margin
        self.low, self.high, self.start, self.end, self.log = low, high, start, end, log
        self.ticks = ticks(low, high, log)

    def __call__(self, value):
        along = lambda x: math.log(x) if self.log else x
        share = (along(value) - along(self.low)) / (along(self.high) - along(self.low))
        return self.start + share * (self.end - self.start)


def plot(title, x_name, y_name, series, *, lines=True, log_x=False, log_y=False, labels=False):
    """series: {name: [(x, y) or (x, y, label)]}"""
    points = [p for some in series.values() for p in some]
    x = Axis([p[0] for p in points], LEFT, WIDTH - RIGHT, log_x)
    y = Axis([p[1] for p in points], HEIGHT - BOTTOM, TOP, log_y)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
           f'aria-label="{escape(title)}">{STYLE}<text x="{LEFT}" y="16" font-weight="bold">{escape(title)}</text>']
    for at in x.ticks:
        out.append(f'<line class="grid" x1="{x(at):.1f}" x2="{x(at):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
                   f'<text x="{x(at):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{number(at)}</text>')
    for at in y.ticks:
        out.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(at):.1f}" y2="{y(at):.1f}"/>'
                   f'<text x="{LEFT - 6}" y="{y(at) + 4:.1f}" text-anchor="end">{number(at)}</text>')
    out.append(f'<path class="axis" d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>'
               f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_name)}</text>'
               f'<text transform="translate(14 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">{escape(y_name)}</text>')
    labelled = sorted(p for p in points if labels and len(p) > 2 and not p[2].startswith(" "))  # others: a tooltip only
    for i, (name, some) in enumerate(series.items()):
        colour = COLOURS[i % len(COLOURS)]
        if lines:
            path = " ".join(f"{x(p[0]):.1f},{y(p[1]):.1f}" for p in some)
            out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for p in some:
            name_of = f"{p[2].strip()}: " if len(p) > 2 else ""
            out.append(f'<circle cx="{x(p[0]):.1f}" cy="{y(p[1]):.1f}" r="4" fill="{colour}">'
                       f'<title>{escape(name_of)}{number(p[0])}, {number(p[1])}</title></circle>')
            if p in labelled:  # beside the mark; towards the end, where there is no room, above it or below
                near_end = x(p[0]) > WIDTH - RIGHT - 130
                dx, dy = (6, -8 - 12 * (labelled.index(p) % 2)) if near_end else (8, 4) if x(p[0]) < WIDTH / 2 else (8, 14)
                out.append(f'<text class="small" x="{x(p[0]) + dx:.1f}" y="{y(p[1]) + dy:.1f}" '
                           f'text-anchor="{"end" if near_end else "start"}">{escape(p[2])}</text>')
        if len(series) > 1:
            out.append(f'<circle cx="{WIDTH - RIGHT + 16}" cy="{TOP + 8 + 16 * i}" r="4" fill="{colour}"/>'
                       f'<text x="{WIDTH - RIGHT + 26}" y="{TOP + 12 + 16 * i}">{escape(name)}</text>')
    return "\n".join(out) + "\n</svg>\n"
