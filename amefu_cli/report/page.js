"use strict";
// A click on the head of a column sorts its table; another click turns the order around.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.parentElement, row = head.parentElement, body = row.closest("table").tBodies[0];
    const column = [...row.children].indexOf(head);
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of row.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = (line) => {
      const cell = line.children[column];
      return "number" in cell.dataset ? Number(cell.dataset.number) : cell.textContent.trim();
    };
    const lines = [...body.rows].sort((one, other) => {
      const [a, b] = [value(one), value(other)];
      if (typeof a === typeof b) return typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true });
      return typeof a === "number" ? -1 : 1;
    });
    body.append(...(down ? lines.reverse() : lines));
  });
}
