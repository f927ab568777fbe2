"use strict";
document.documentElement.classList.add("js");

// --- tooltips: <title> works without JavaScript; here it becomes quicker and can be styled
const tip = document.querySelector(".tip");
for (const title of document.querySelectorAll("svg title")) {
  title.parentNode.dataset.tip = title.textContent;
  title.remove();
}
document.addEventListener("pointermove", (event) => {
  const target = event.target.closest?.("[data-tip]");
  tip.hidden = !target;
  if (!target) return;
  tip.textContent = target.dataset.tip;
  const right = event.clientX + 16 + tip.offsetWidth > innerWidth;
  const below = event.clientY + 16 + tip.offsetHeight > innerHeight;
  tip.style.left = `${Math.max(4, right ? event.clientX - 12 - tip.offsetWidth : event.clientX + 16)}px`;
  tip.style.top = `${Math.max(4, below ? event.clientY - 12 - tip.offsetHeight : event.clientY + 16)}px`;
});

// --- drawings: marking a node's edges, hiding slots and weak edges, zooming
for (const figure of document.querySelectorAll("figure.drawing")) {
  const svg = figure.querySelector("svg.circuit");
  const edges = [...svg.querySelectorAll(".e")];
  const nodes = [...svg.querySelectorAll(".n")];
  let pinned = null;

  const mark = (name) => {
    svg.classList.toggle("focus", name !== null);
    const on = new Set([name]);
    for (const edge of edges) {
      const { s, r } = edge.dataset;
      const touches = (s === name || r === name) && !edge.classList.contains("off");
      edge.classList.toggle("on", touches);
      if (touches) on.add(s).add(r);
    }
    for (const node of nodes) {
      node.classList.toggle("on", on.has(node.dataset.n));
      node.classList.toggle("pinned", node.dataset.n === pinned);
    }
  };
  for (const node of nodes) {
    node.addEventListener("pointerenter", () => mark(node.dataset.n));
    node.addEventListener("pointerleave", () => mark(pinned));
  }
  svg.addEventListener("click", (event) => {
    const name = event.target.closest(".n")?.dataset.n ?? null;
    pinned = name === pinned ? null : name;
    mark(pinned);
  });

  const slider = figure.querySelector(".strongest");
  const boxes = [...figure.querySelectorAll(".show")];
  const filter = () => {
    const hidden = new Set(boxes.filter((b) => !b.checked).map((b) => b.dataset.slot));
    const most = slider ? Number(slider.value) : Infinity;
    if (slider) figure.querySelector("output").textContent = most.toLocaleString("en");
    for (const edge of edges) {
      const slot = ["q", "k", "v", "plain"].find((s) => edge.classList.contains(s));
      edge.classList.toggle("off", hidden.has(slot) || Number(edge.dataset.rank) > most);
    }
    mark(pinned);
  };
  for (const control of [slider, ...boxes]) control?.addEventListener("input", filter);

  let zoom = 1;
  for (const button of figure.querySelectorAll("[data-zoom]")) {
    button.addEventListener("click", () => {
      const way = button.dataset.zoom;
      zoom = way === "fit" ? 1 : Math.min(6, Math.max(0.3, zoom * (way === "in" ? 1.25 : 0.8)));
      svg.style.setProperty("--zoom", zoom);
    });
  }
}

// --- tables: click a heading to sort, type to filter
const key = (row, column) => {
  const cell = row.cells[column];
  return cell.dataset.v === undefined ? cell.textContent : Number(cell.dataset.v);
};
const compare = (a, b) =>
  typeof a === "number" && typeof b === "number"
    ? a - b
    : String(a).localeCompare(String(b), "en", { numeric: true });

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    if (!head.textContent) return;
    const sort = () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows].map((row) => [key(row, column), row]);
      rows.sort((x, y) => (down ? compare(y[0], x[0]) : compare(x[0], y[0])));
      table.tBodies[0].append(...rows.map(([, row]) => row));
    };
    head.tabIndex = 0;
    head.addEventListener("click", sort);
    head.addEventListener("keydown", (event) => event.key === "Enter" && sort());
  });
}
for (const input of document.querySelectorAll(".filter")) {
  input.addEventListener("input", () => {
    const wanted = input.value.trim().toLowerCase();
    for (const row of input.parentNode.querySelectorAll("tbody tr")) {
      row.hidden = !row.dataset.name.toLowerCase().includes(wanted);
    }
  });
}
