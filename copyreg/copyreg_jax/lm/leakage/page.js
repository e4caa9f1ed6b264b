"use strict";
// Reads the numbers of the heat maps, and sorts and filters the works; the page is whole without it.
(() => {
  const codes = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  const raised = (power) => String(power).replace(/[-\d]/g, (c) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[c] ?? "⁻");
  const round = (number) => String(Math.round(10 * number) / 10);

  const says = (code) => {
    if (code === ".") return "no passage, or one that sampling never gives";
    const half = codes.indexOf(code);
    if (half === 0) return "less than 4·10" + raised(-30);
    if (half >= 60) return "1";
    const power = Math.floor(half / 2) - 30; // times 1, or times the root of 10, rounded down
    const odd = half % 2;
    if (power === -1) return `at least ${odd ? 31 : 10} %`;
    const samples = odd ? 32 * 10 ** (-power - 2) : 10 ** -power;
    return power >= -6 ? `at least 1 in ${samples.toLocaleString("en")}`
      : `at least ${odd ? 3 : 1}·10${raised(power)}`;
  };

  const nameOf = (figure) => {
    let before = figure.previousElementSibling;
    while (!/^H[34]$/.test(before.tagName)) before = before.previousElementSibling;
    return before.textContent;
  };

  for (const [number, heat] of document.querySelectorAll(".heat").entries()) {
    const values = heat.dataset.p;
    const map = heat.parentElement;
    const mark = document.createElement("i");
    const line = document.createElement("span");
    line.className = "readout";
    if (!number) line.textContent = "Point at the map, or focus it and use the arrow keys.";
    line.setAttribute("aria-hidden", "true");
    map.append(mark);
    map.parentElement.querySelector("figcaption").append(line);
    let place = 0;
    const show = (next) => {
      place = Math.min(Math.max(next, 0), values.length - 1);
      const [from, to] = [place, place + 1].map((k) => round((100 * k) / values.length));
      const text = `${from} to ${to} % of the text: ${says(values[place])}`;
      line.textContent = text;
      mark.style.left = `${(100 * (place + 0.5)) / values.length}%`;
      map.setAttribute("aria-valuenow", String(place));
      map.setAttribute("aria-valuetext", text);
    };
    const figure = map.closest("figure");
    const name = nameOf(figure);
    for (const [key, value] of Object.entries({
      role: "slider", tabindex: 0, "aria-label": `Place in ${name}`,
      "aria-describedby": heat.getAttribute("aria-labelledby"),
      "aria-valuemin": 0, "aria-valuemax": values.length - 1, "aria-valuenow": 0,
      "aria-valuetext": "the beginning",
    })) map.setAttribute(key, value);
    heat.removeAttribute("role");
    heat.removeAttribute("aria-labelledby");
    heat.setAttribute("aria-hidden", "true");
    map.addEventListener("focus", () => show(place));
    const point = (event) => {
      const box = map.getBoundingClientRect();
      show(Math.floor(((event.clientX - box.left) / box.width) * values.length));
    };
    map.addEventListener("pointermove", point);
    map.addEventListener("pointerdown", point);
    map.addEventListener("keydown", (event) => {
      const step = {
        ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10,
        Home: -values.length, End: values.length,
      }[event.key];
      if (step === undefined) return;
      event.preventDefault();
      show(place + step);
    });
  }

  const tools = document.querySelector(".tools");
  if (!tools) return;
  const rows = [...document.querySelectorAll(".overview tbody tr")].map((row, number) => ({
    row,
    number,
    work: document.getElementById(`w${number + 1}`),
    name: row.querySelector("a").textContent,
    keys: row.dataset.k.split(" ").map(Number),
  }));
  const [search, order, status] = ["input", "select", "p"].map((name) => tools.querySelector(name));
  const end = rows.at(-1).work.nextSibling;
  const sort = () => {
    const key = order.value;
    const sorted = [...rows].sort((a, b) =>
      (key === "name" ? a.name.localeCompare(b.name, "en", { numeric: true })
        : key === "" ? 0 : b.keys[key] - a.keys[key]) || a.number - b.number);
    for (const { row, work } of sorted) {
      row.parentElement.append(row);
      end.parentElement.insertBefore(work, end);
    }
  };
  const filter = () => {
    const wanted = search.value.trim().toLowerCase();
    let shown = 0;
    for (const { row, work, name } of rows) {
      row.hidden = work.hidden = !name.toLowerCase().includes(wanted);
      shown += !row.hidden;
    }
    status.textContent = `${shown} of ${rows.length} works`;
  };
  order.addEventListener("change", sort);
  search.addEventListener("input", filter);
  tools.addEventListener("submit", (event) => event.preventDefault());
  tools.hidden = false;
  filter();
})();
