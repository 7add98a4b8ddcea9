// What the page does beyond being read: values on hover and focus, sorting, the filter by depth. Text only ever
// goes in as textContent. Without this script everything is there and in the study's order.
"use strict";
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const LIMIT = 15; // rows shown before "show all", which is not worth a button for a few more
  const FEW = 5;

  // ---- values of points ----

  const tip = document.getElementById("tip");
  for (const title of all("svg .mark > title, svg .hit > title")) {
    const holder = title.parentNode; // the browser's own tooltip would come on top of ours
    holder.dataset.tip = title.textContent;
    if (holder.hasAttribute("role")) holder.setAttribute("aria-label", title.textContent);
    title.remove();
  }

  const show = (mark, x, y) => {
    tip.replaceChildren(...mark.dataset.tip.split(" · ").map((text, i) => {
      const line = document.createElement(i ? "span" : "b");
      line.textContent = text;
      return line;
    }));
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const left = Math.min(Math.max(8, x - box.width / 2), document.documentElement.clientWidth - box.width - 8);
    const above = y - box.height - 16;
    tip.style.left = `${left}px`;
    tip.style.top = `${above < 4 ? y + 18 : above}px`;
  };
  const hide = () => { tip.hidden = true; };

  document.addEventListener("pointerover", (event) => {
    const mark = event.target.closest("[data-tip]");
    if (mark) show(mark, event.clientX, event.clientY); else hide();
  });
  document.addEventListener("scroll", hide, { passive: true });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });

  for (const plot of all(".panel svg")) {
    const marks = all(".mark", plot);
    marks.sort((a, b) => a.getBoundingClientRect().left - b.getBoundingClientRect().left);
    marks.forEach((mark, i) => {
      mark.tabIndex = i ? -1 : 0; // one stop a plot; the arrow keys go from point to point
      mark.addEventListener("focus", () => {
        const box = mark.getBoundingClientRect();
        show(mark, box.left + box.width / 2, box.top + box.height / 2);
      });
      mark.addEventListener("blur", hide);
      mark.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
        const next = step && marks[i + step];
        if (!next) return;
        event.preventDefault();
        mark.tabIndex = -1;
        next.tabIndex = 0;
        next.focus();
      });
    });
  }

  // ---- the table ----

  const table = document.getElementById("trials");
  if (!table) return;
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const shown = document.querySelector(".shown");
  let depth = "";
  let whole = false;

  const fill = () => {
    const searched = [...body.rows].filter((row) => !row.matches(".baseline, .reference"));
    for (const row of searched) row.hidden = depth !== "" && row.dataset.depth !== depth;
    const matching = searched.filter((row) => !row.hidden);
    const most = whole || matching.length <= LIMIT + FEW ? matching.length : LIMIT;
    matching.forEach((row, i) => row.classList.toggle("beyond", i >= most));
    const at = depth === "" ? "" : ` with ${depth} unfrozen layers`;
    shown.replaceChildren(`${most} of ${matching.length} configurations${at}.`);
    if (matching.length > LIMIT + FEW) {
      const more = document.createElement("button");
      more.type = "button";
      more.textContent = whole ? `Show ${LIMIT}` : `Show all ${matching.length}`;
      more.addEventListener("click", () => { whole = !whole; fill(); shown.querySelector("button").focus(); });
      shown.append(more);
    }
  };

  const sort = (column, ascending) => {
    const value = (row) => row.cells[column].dataset.sort;
    const order = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === "" || y === "") return (x === "") - (y === ""); // what is missing stays last both ways
      return ascending ? x - y : y - x;
    };
    body.append(...[...rows].sort(order));
    fill();
  };

  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const ascending = head.getAttribute("aria-sort") !== "ascending";
      for (const other of heads) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      sort(column, ascending);
    });
  });

  const buttons = all(".filter button");
  for (const button of buttons) {
    button.addEventListener("click", () => {
      depth = button.dataset.depth;
      for (const other of buttons) other.setAttribute("aria-pressed", String(other.dataset.depth === depth));
      for (const drawn of all("svg [data-depth]")) {
        drawn.classList.toggle("dimmed", depth !== "" && drawn.dataset.depth !== depth);
      }
      fill();
    });
  }
  fill();
})();
