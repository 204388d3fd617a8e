# SPDX-License-Identifier: Apache-2.0
"""The page of lamina compare in a browser: wide and narrow, by keyboard, in the dark, on paper."""

import json

import program
from browser import Browser
from compare_test import CompareTest


class PageTest(CompareTest):
    def test_in_a_browser(self):
        hostile = "<img src=x onerror=alert(1)>&'.json"
        self.file(hostile, json.dumps({"schema": "lamina.kvsharer/1", "map": [0, 0, 2, 2]}))
        specs = ["k8v8", "window(window=40)", f'kvsharer(map="{self.folder / hostile}")']
        self.ok(*self.line("-t", 2, specs=specs, output="report.html"))
        page = self.folder / "report.html"
        self.assertNotRegex(page.read_text(), r"<img|https?:|src=[^x]|@import|url\(|\bnan\b")
        browser = Browser()
        self.addCleanup(browser.close)
        for width in [360, 1280]:
            with self.subTest(width=width):
                browser.open(page, width)
                self.look_at(browser, width)
                self.assertEqual(browser.problems(), [])

    def look_at(self, browser, width):
        run = browser.run
        self.assertLessEqual(run("document.documentElement.scrollWidth"), width)
        plots = run("document.querySelectorAll('.plots svg').length")
        self.assertGreaterEqual(plots, 4)
        self.assertEqual(run("document.querySelectorAll('.plots .mark').length"), 4 * plots)
        # Marks are within their plots, and large enough to be seen.
        self.assertTrue(run("""[...document.querySelectorAll('.plots svg')].every((svg) => {
            const frame = svg.getBoundingClientRect();
            return [...svg.querySelectorAll('.mark circle:not(.target)')].every((mark) => {
              const box = mark.getBoundingClientRect();
              return box.width > 5 && box.left >= frame.left && box.right <= frame.right && box.top >= frame.top &&
                box.bottom <= frame.bottom; }); })"""))
        self.assertGreaterEqual(run("document.querySelectorAll('.maps svg.heat').length"), 6)
        self.byte_bars(browser)
        self.assertGreater(run("document.querySelectorAll('.pair mark').length"), 0)
        self.ranges(browser)
        self.heat_values(browser)
        self.sort(browser)
        self.filter(browser)
        self.assertTrue(browser.pdf().startswith(b"%PDF"))
        self.colours(browser)

    def byte_bars(self, browser):
        """Each axis has its part; held and saved are as long as the dense cache; the figures stand below."""
        bars = browser.run("""[...document.querySelectorAll('.axes .bar')].map((bar) => [...bar.querySelectorAll('i')].map(
            (part) => [part.className, part.getBoundingClientRect().width]))""")
        parts = [dict(bar) for bar in bars]
        self.assertEqual([{name.removeprefix("saved_by_") for name in bar if name.startswith("saved")} for bar in parts],
                         [set(), {"bits"}, {"tokens"}, {"layers"}])
        length = parts[0]["held"]
        self.assertGreater(length, 40)
        for bar in parts:
            self.assertAlmostEqual(sum(bar.values()) + len(bar) - 1, length, delta=3)  # gaps are a pixel wide
        self.assertGreater(browser.run("document.querySelectorAll('.held-parts .bar i').length"), 4)
        rows = browser.run("""[...document.querySelectorAll('#bytes tbody tr')].map((row) => [...row.cells].slice(2, 7).map(
            (cell) => Number(cell.dataset.value)))""")
        self.assertEqual(len(rows), 4)
        for held, bits, tokens, layers, overhead in rows:
            self.assertEqual(held + bits + tokens + layers - overhead, rows[0][0])

    def ranges(self, browser):
        """Of each spec's perplexity, KL and top-1, in view: no pointer is needed."""
        cells = browser.run("""[...document.querySelectorAll('#specs td small')].map((range) => [
            Number(range.parentNode.firstChild.textContent), range.textContent, range.getBoundingClientRect().height])""")
        self.assertEqual(len(cells), 4 * 3)
        for value, shown, height in cells:
            low, high = map(float, shown.split("–"))
            self.assertLessEqual(low, value)
            self.assertLessEqual(value, high)
            self.assertGreater(height, 8)
        self.assertIn("tokens taken as independent", browser.run("document.body.textContent"))
        self.assertEqual(browser.run("document.querySelectorAll('td[title]').length"), 0)

    def heat_values(self, browser):
        """Every cell of every heat map stands in a table that opens by keyboard, and is what the pointer shows."""
        maps = browser.run("""[...document.querySelectorAll('.maps figure')].filter((f) => f.querySelector('svg')).map(
            (figure) => [[...figure.querySelectorAll('rect')].map((cell) => cell.textContent),
                         [...figure.querySelectorAll('td')].map((cell) => cell.textContent),
                         figure.querySelectorAll('tbody tr').length])""")
        for shown, values, rows in maps:
            self.assertEqual(shown, values)
            self.assertTrue(rows > 0 and len(values) % rows == 0 and all(values))
        browser.run("document.querySelector('.maps summary').focus()")
        is_seen = "document.querySelector('.maps td').checkVisibility()"
        for seen in [True, False]:
            browser.key("Enter")
            self.assertEqual(browser.run(is_seen), seen)

    def colours(self, browser):
        """Dark on a dark screen; on paper the same whatever the screen is like."""
        shown = """['body', 'section', 'td', 'svg text'].map((name) => {
            const style = getComputedStyle(document.querySelector(name));
            return [style.color, style.backgroundColor, style.fill]; })"""
        light = browser.run(shown)
        browser.prefer("dark")
        self.assertNotEqual(browser.run(shown), light)
        browser.prefer("light", "print")
        paper = browser.run(shown)
        browser.prefer("dark", "print")
        self.assertEqual(browser.run(shown), paper)
        browser.prefer("light")

    def sort(self, browser):
        column = "[...document.querySelectorAll('#specs tbody tr')].map((row) => Number(row.cells[2].dataset.value))"
        header = "document.querySelector('#specs th:nth-child(3)')"
        before = browser.run(column)
        browser.run(f"{header}.querySelector('button').click()")
        self.assertEqual(browser.run(column), sorted(before))
        self.assertEqual(browser.run(f"{header}.getAttribute('aria-sort')"), "ascending")
        # The same by keyboard.
        browser.run(f"{header}.querySelector('button').focus()")
        browser.key("Enter")
        self.assertEqual(browser.run(column), sorted(before, reverse=True))
        browser.key("Tab")
        self.assertEqual(browser.run("document.activeElement.textContent"), "ratio")

    def filter(self, browser):
        rows = "[...document.querySelectorAll('#specs tbody tr')].filter((row) => !row.hidden).length"
        for words, shown, dim in [("WINDOW", 1, 3), ("k8 v8", 1, 3), ("nothing", 0, 4), ("", 4, 0)]:
            browser.run(f"const f = document.querySelector('#filter'); f.value = {json.dumps(words)}; "
                        "f.dispatchEvent(new Event('input'));".replace("const f", "var f"))
            self.assertEqual(browser.run(rows), shown, words)
            self.assertEqual(browser.run("document.querySelectorAll('.plots svg')[0].querySelectorAll('.dim').length"), dim)


if __name__ == "__main__":
    program.main()
