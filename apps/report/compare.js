// SPDX-License-Identifier: Apache-2.0
// Sorting and filtering of a page that is whole without this. Specs are told apart by their number, data-spec.
(() => {
  "use strict";
  const all = (selector) => [...document.querySelectorAll(selector)];
  const tables = all("table").filter((table) => table.querySelector("th button"));
  const rows = [...document.querySelector("#specs").tBodies[0].rows];

  // Numbers by value, texts by letters, what is missing last whichever way.
  const compare = (a, b, sign) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    const difference = Number(a) - Number(b);
    return sign * (Number.isNaN(difference) ? a.localeCompare(b) : difference);
  };
  const sort = (table, header) => {
    const ascending = header.getAttribute("aria-sort") !== "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const body = table.tBodies[0];
    const value = (row) => row.cells[header.cellIndex].dataset.value;
    body.append(...[...body.rows].sort((a, b) => compare(value(a), value(b), ascending ? 1 : -1)));
  };
  for (const table of tables)
    for (const header of table.tHead.rows[0].cells)
      header.querySelector("button").onclick = () => sort(table, header);

  const filter = document.querySelector("#filter");
  const show = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const has = words.every((word) => row.cells[1].textContent.toLowerCase().includes(word));
      shown += has;
      for (const part of all(`[data-spec="${row.dataset.spec}"]`))
        if (part.tagName === "TR") part.hidden = !has;
        else part.classList.toggle("dim", !has);
    }
    document.querySelector("#shown").textContent = words.length ? `${shown} of ${rows.length} specs` : "";
  };
  filter.oninput = show;

  // A spec that is pointed at, or has the focus, shows in all charts.
  const hit = (event, on) => {
    const spec = event.target.closest?.("[data-spec]")?.dataset.spec;
    if (spec !== undefined) for (const other of all(`[data-spec="${spec}"]`)) other.classList.toggle("hit", on);
  };
  for (const [name, on] of [["pointerover", true], ["pointerout", false], ["focusin", true], ["focusout", false]])
    document.addEventListener(name, (event) => hit(event, on));

  // A heat map's cell under the pointer shows what stands in the table below it.
  for (const figure of all(".maps figure")) {
    const values = figure.querySelectorAll("td");
    figure.querySelectorAll(".heat rect").forEach((cell, i) => {
      const title = document.createElementNS(cell.namespaceURI, "title");
      title.textContent = values[i].textContent;
      cell.append(title);
    });
  }

  // On paper every text is open, but for the heat maps' many values, which stay as the reader has them.
  window.addEventListener("beforeprint", () => all("details:not(.values)").forEach((d) => { d.open = true; }));
})();
