// Sorts tables by a click on a heading (numbers by value, missing ones last), opens the contents where there is room for
// them and marks the section that is being read, and saves the files that the page carries.
"use strict";
(() => {
  const valueOf = (row, column) => {
    const cell = row.cells[column];
    if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
    if (cell.classList.contains("missing")) return null;
    return cell.textContent.trim() || null;
  };
  const inOrder = (one, other) =>
    typeof one === "number" && typeof other === "number"
      ? one - other
      : typeof one === "number" ? -1 : typeof other === "number" ? 1 : one.localeCompare(other, "en", { numeric: true });

  const sort = (table, heading, direction) => {
    const column = heading.cellIndex;
    const body = table.tBodies[0];
    table.original ??= [...body.rows];
    const rows = table.original.map((row) => [valueOf(row, column), row]);
    if (direction !== "none") {
      const sign = direction === "ascending" ? 1 : -1;
      rows.sort(([one], [other]) =>
        one === null || other === null ? (one === null) - (other === null) : sign * inOrder(one, other));
      table.dataset.sorted = "";
    } else {
      delete table.dataset.sorted;
    }
    body.append(...rows.map(([, row]) => row));
    for (const each of heading.parentElement.cells) if (each.ariaSort) each.ariaSort = "none";
    heading.ariaSort = direction;
  };

  const next = { none: "ascending", ascending: "descending", descending: "none" };
  for (const table of document.querySelectorAll("table")) {
    if (!table.tBodies[0] || table.tBodies[0].rows.length < 2) continue;
    for (const heading of table.tHead.rows[table.tHead.rows.length - 1].cells) {
      const button = document.createElement("button");
      button.type = "button";
      button.title = "Sort";
      button.append(...heading.childNodes);
      heading.append(button);
      heading.ariaSort = "none";
      button.addEventListener("click", () => sort(table, heading, next[heading.ariaSort]));
    }
  }

  const contents = document.getElementById("contents");
  const beside = matchMedia("(min-width: 90rem)");
  const unfold = () => { contents.open = beside.matches; };
  beside.addEventListener("change", unfold);
  unfold();
  const links = [...contents.querySelectorAll("a")];
  // Where the contents lie over the report, they give way to what was chosen.
  contents.addEventListener("click", (event) => {
    if (event.target.closest("a")) contents.open = beside.matches;
  });
  contents.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !beside.matches) {
      contents.open = false;
      contents.querySelector("summary").focus();
    }
  });
  // The last heading above the upper third of the window is that of the section on it.
  const headings = links.map((link) => document.getElementById(link.hash.slice(1)));
  const mark = () => {
    let current = 0;
    headings.forEach((heading, index) => { if (heading.getBoundingClientRect().top < innerHeight / 3) current = index; });
    links.forEach((link, index) => {
      if (index === current) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    });
  };
  let waiting = false;
  addEventListener("scroll", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; mark(); });
  }, { passive: true });
  mark();

  for (const button of document.querySelectorAll("button.save")) {
    button.hidden = false;
    button.addEventListener("click", () => {
      const source = document.getElementById(button.dataset.source);
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([source.textContent], { type: button.dataset.type }));
      link.download = button.dataset.name;
      link.click();
      URL.revokeObjectURL(link.href);
    });
  }
})();
