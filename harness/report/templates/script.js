(() => {
  const root = document.documentElement, button = document.getElementById("theme");
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const name = () => { button.textContent = dark() ? "Light" : "Dark"; button.setAttribute("aria-label", "Switch to the " + (dark() ? "light" : "dark") + " theme"); };
  try { const kept = localStorage.getItem("optgrid-theme"); if (kept) root.dataset.theme = kept; } catch { /* opened from disk, storage may be off */ }
  button.hidden = false; name();
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark"; name();
    try { localStorage.setItem("optgrid-theme", root.dataset.theme); } catch { /* the choice lasts as long as the page */ }
  });
  for (const table of document.querySelectorAll("table.sortable")) {
    const groups = table.tBodies.length > 1, body = groups ? table : table.tBodies[0];
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const sorter = document.createElement("button");
      sorter.type = "button"; sorter.append(...head.childNodes); head.append(sorter);
      sorter.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const key = row => { const cell = row.cells[column]; return cell ? cell.dataset.value ?? cell.textContent.trim() : ""; };
        const rows = groups ? [...table.tBodies].map((part, i) => [key(part.rows[0]), i, part]) : [...body.rows].map((row, i) => [key(row), i, row]);
        rows.sort(([a, i], [b, j]) => {
          const x = parseFloat(a), y = parseFloat(b), numbers = !isNaN(x) && !isNaN(y);
          const order = numbers ? x - y : !isNaN(x) ? -1 : !isNaN(y) ? 1 : a.localeCompare(b);
          return (up ? order : -order) || i - j;
        });
        body.append(...rows.map(r => r[2]));
      });
    });
  }
})();
