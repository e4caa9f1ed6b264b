"use strict";
// Fills, searches and sorts the tables of all rows; the page has all that matters without it.
(() => {
  const SHOWN = 25;
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const read = (text, size, one) => {
    const view = new DataView(bytes(text).buffer);
    return Float64Array.from({ length: view.byteLength / size }, (_, k) => one(view, size * k));
  };
  const integers = (text) => read(text, 4, (view, at) => view.getUint32(at, true));
  const floats = (text) => read(text, 8, (view, at) => view.getFloat64(at, true));

  // As Python's format ".6g".
  const write = (value) => {
    if (Number.isNaN(value)) return "nan";
    if (!Number.isFinite(value)) return value > 0 ? "inf" : "-inf";
    if (value === 0) return "0";
    const [digits, power] = value.toExponential(5).split("e");
    if (power >= -4 && power < 6) return String(Number(value.toPrecision(6)));
    const sign = power < 0 ? "-" : "+";
    return `${Number(digits)}e${sign}${String(Math.abs(power)).padStart(2, "0")}`;
  };

  for (const part of document.querySelectorAll(".search")) {
    const data = JSON.parse(part.querySelector("script").textContent);
    const whole = typeof data.names === "string";
    const names = whole ? integers(data.names) : data.names;
    const lower = whole ? null : names.map((name) => name.toLowerCase());
    const groups = bytes(data.groups);
    const numbers = data.numbers.map(floats);
    if (data.difference) numbers.push(numbers[0].map((value, k) => value - numbers[1][k]));
    const find = part.querySelector("input");
    const group = part.querySelector(".group");
    const order = part.querySelector(".order");
    const status = part.querySelector("[role=status]");
    const body = part.querySelector("tbody");
    const [previous, next] = part.querySelectorAll("button");
    const kinds = [...group.options].slice(1).map((option) => option.textContent);
    let found = [];
    let from = 0;
    let hint = "";

    const wanted = () => {
      const text = find.value.trim();
      hint = "";
      if (text === "") return () => true;
      if (!whole) return (k) => lower[k].includes(text.toLowerCase());
      const range = /^(\d+)(?:\s*[-–]\s*(\d+))?$/.exec(text.replaceAll(",", "")); // 1,234
      if (!range) {
        hint = "; only their numbers are searched, such as 7 or 20-30";
        return () => false;
      }
      const ends = [Number(range[1]), Number(range[2] ?? range[1])];
      return (k) => names[k] >= Math.min(...ends) && names[k] <= Math.max(...ends);
    };
    const search = () => {
      const fits = wanted();
      found = [];
      for (let k = 0; k < groups.length; k += 1) {
        if ((group.value === "" || groups[k] === Number(group.value)) && fits(k)) found.push(k);
      }
      if (order.value !== "") {
        const column = numbers[parseInt(order.value, 10)];
        const way = order.value.at(-1);
        const keys = column.map((value) => {
          const key = way === "m" ? Math.abs(value) : value;
          return Number.isNaN(key) ? Infinity : way === "a" ? key : -key; // NaN comes last
        });
        found.sort((a, b) => (keys[a] < keys[b] ? -1 : keys[a] > keys[b] ? 1 : a - b));
      }
      from = 0;
      show();
    };
    const show = () => {
      body.replaceChildren(...found.slice(from, from + SHOWN).map((k) => {
        const row = document.createElement("tr");
        const head = document.createElement("th");
        head.scope = "row";
        head.textContent = String(names[k]);
        row.append(head);
        for (const text of [kinds[groups[k]], ...numbers.map((column) => write(column[k]))]) {
          const cell = document.createElement("td");
          cell.textContent = text;
          row.append(cell);
        }
        return row;
      }));
      const count = (number) => number.toLocaleString("en");
      status.textContent = found.length === 0 ? `none of ${count(groups.length)} rows${hint}`
        : `${count(from + 1)} to ${count(Math.min(from + SHOWN, found.length))} of `
          + `${count(found.length)} rows`;
      previous.disabled = from === 0;
      next.disabled = from + SHOWN >= found.length;
    };
    const turn = (step) => {
      from += step;
      show();
    };
    previous.addEventListener("click", () => turn(-SHOWN));
    next.addEventListener("click", () => turn(SHOWN));
    find.addEventListener("input", search);
    group.addEventListener("change", search);
    order.addEventListener("change", search);
    part.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
    part.hidden = false;
    search();
  }
})();
