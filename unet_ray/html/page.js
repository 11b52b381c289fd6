"use strict";

// Click on a heading: rows by that column, smallest first, then largest first; what is a dash stays last.
for (const table of document.querySelectorAll("table.sortable")) {
  const [body] = table.tBodies;
  const headings = [...table.tHead.querySelectorAll("th")];
  for (const heading of headings) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const sign = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of headings) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const keyed = [...body.rows].map((row) => [row, keyOf(row.cells[heading.cellIndex].textContent.trim())]);
      keyed.sort(([, a], [, b]) => (a === null || b === null ? (a === null) - (b === null) : sign * compare(a, b)));
      body.append(...keyed.map(([row]) => row));
    });
  }
}

function keyOf(text) {
  if (text === "\u2013" || text === "") return null;
  const number = Number(text.replaceAll(",", "").replace("%", ""));
  return Number.isNaN(number) ? text : number;
}

function compare(a, b) {
  return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(b, "en", { numeric: true });
}

// Drag over the photo of a panel: another picture of it, chosen below, comes over it from the right.
for (const photo of document.querySelectorAll("figure.wipe")) {
  const others = [...photo.parentElement.querySelectorAll("figure:not(.wipe)")].filter((one) => one.querySelector("img"));
  if (!others.length) continue;
  const stage = photo.querySelector(".stage");
  const over = document.createElement("img");
  const range = Object.assign(document.createElement("input"), { type: "range", min: 0, max: 100, value: 60 });
  const choice = document.createElement("select");
  const label = (figure) => figure.querySelector("figcaption > span").textContent;
  choice.append(...others.map((figure, place) => new Option(label(figure), place)));
  choice.value = Math.max(0, others.findIndex((figure) => label(figure) === "Prediction"));
  over.alt = "";
  range.setAttribute("aria-label", "How much of the photo is seen, in percent");
  choice.setAttribute("aria-label", "What lies over the photo");
  const show = () => {
    over.src = others[choice.value].querySelector("img").src;
    stage.style.setProperty("--seen", `${range.value}%`);
  };
  range.addEventListener("input", show);
  choice.addEventListener("change", show);
  stage.append(over, range);
  photo.querySelector("figcaption").append(choice);
  show();
}
