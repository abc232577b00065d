for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const rows = [...table.tBodies[0].rows];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const text = (row) => row.cells[column].textContent.trim();
      const number = (row) => parseFloat(text(row));
      const order = (one, other) => {
        const [a, b] = [number(one), number(other)];
        if (isNaN(a) && isNaN(b)) return text(other).localeCompare(text(one));
        return isNaN(a) ? 1 : isNaN(b) ? -1 : down ? b - a : a - b;
      };
      const sorted = [...rows].sort(order);
      if (!down && rows.every((row) => isNaN(number(row)))) sorted.reverse();
      table.tBodies[0].append(...sorted);
    });
  });
}
