"use strict";
// Tables are sorted by a click on the head of a column, or by Enter on it; what has no value comes last.
const collator = new Intl.Collator(undefined, { numeric: true });
for (const table of document.querySelectorAll("table.sortable")) {
  const said = document.getElementById(table.dataset.says);
  for (const button of table.querySelectorAll("thead button")) {
    button.addEventListener("click", () => {
      const head = button.closest("th");
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of table.querySelectorAll("thead th[aria-sort]")) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const value = (row) => row.cells[head.cellIndex].dataset.value ?? row.cells[head.cellIndex].textContent.trim();
      const rows = [...table.tBodies[0].rows].map((row) => [value(row), row]);
      rows.sort(([a], [b]) => {
        if (a === "" || b === "") return (a === "") - (b === "");
        return sign * (head.dataset.kind === "number" ? Number(a) - Number(b) : collator.compare(a, b));
      });
      table.tBodies[0].append(...rows.map(([, row]) => row));
      said.textContent = `Sorted by ${button.textContent.trim()}, ${head.getAttribute("aria-sort")}.`;
    });
  }
}
// Charts say the value of the point that is nearest to the pointer.
for (const chart of document.querySelectorAll("figure.chart")) {
  const svg = chart.querySelector("svg"), mark = svg.querySelector(".mark"), readout = chart.querySelector(".readout");
  const points = [...svg.querySelectorAll(".hit")].map((hit) => [hit.cx.baseVal.value, hit.cy.baseVal.value, hit]);
  const rest = readout.textContent;
  svg.addEventListener("pointermove", (event) => {
    const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    let best = null, least = Infinity;
    for (const point of points) {
      const far = 9 * (point[0] - place.x) ** 2 + (point[1] - place.y) ** 2;
      if (far < least) [best, least] = [point, far];
    }
    if (!best) return;
    mark.setAttribute("cx", best[0]);
    mark.setAttribute("cy", best[1]);
    mark.style.visibility = "visible";
    readout.textContent = best[2].querySelector("title").textContent;
  });
  svg.addEventListener("pointerleave", () => {
    mark.style.visibility = "hidden";
    readout.textContent = rest;
  });
}
// On paper nothing is folded.
addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details.print")) folded.open = true;
});
