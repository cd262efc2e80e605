// The page's script: it sorts tables. Everything can be read without it.
"use strict";
(() => {
  // ---- tables -------------------------------------------------------------------------------------------------
  const asNumber = (text) => {
    const found = /^[<>~]?\s*([-+]?\d[\d,]*\.?\d*(?:e[-+]?\d+)?)/i.exec(text.replace(/\u2212/g, "-"));
    return found ? Number(found[1].replace(/,/g, "")) : NaN;
  };

  function compareCells(first, second) {
    const [a, b] = [asNumber(first), asNumber(second)];
    if (!Number.isNaN(a) && !Number.isNaN(b)) return a - b;
    if (!Number.isNaN(a)) return -1;
    if (!Number.isNaN(b)) return 1;
    return first.localeCompare(second);
  }

  function sortTable(table, header) {
    const headers = [...header.parentElement.children];
    const place = headers.indexOf(header);
    const next = { none: "ascending", ascending: "descending", descending: "none" };
    const order = next[header.getAttribute("aria-sort") || "none"];
    for (const other of headers) other.setAttribute("aria-sort", "none");
    header.setAttribute("aria-sort", order);
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const text = (row) => row.cells[place].textContent.trim();
    const isEmpty = (row) => ["", "-"].includes(text(row));
    rows.sort((a, b) => {
      const back = Number(a.dataset.place) - Number(b.dataset.place);
      if (order === "none") return back;
      if (isEmpty(a) !== isEmpty(b)) return isEmpty(a) ? 1 : -1; // what is missing comes last either way
      return (order === "ascending" ? 1 : -1) * compareCells(text(a), text(b)) || back;
    });
    body.append(...rows);
  }

  for (const table of document.querySelectorAll("table")) {
    if (!table.tHead || !table.tBodies[0] || table.tBodies[0].rows.length < 2) continue;
    [...table.tBodies[0].rows].forEach((row, place) => { row.dataset.place = place; });
    for (const header of table.tHead.rows[0].cells) {
      header.tabIndex = 0;
      header.classList.add("sortable");
      header.setAttribute("aria-sort", "none");
      header.addEventListener("click", () => sortTable(table, header));
      header.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        sortTable(table, header);
      });
    }
  }
})();
