// Line plots as SVG, and the parts that all playgrounds share.

const book = {
  games: {},

  data(game) {
    return JSON.parse(document.getElementById(`data-${game}`).textContent);
  },

  element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  },

  // A slider with its value beside it. -> { row, value() }
  slider(label, { min, max, step, value }, changed) {
    const input = book.element("input", { type: "range", min, max, step, value });
    const shown = book.element("output", {}, String(value));
    input.addEventListener("input", () => {
      shown.textContent = input.value;
      changed();
    });
    const set = (x, limit) => {
      if (limit !== undefined) input.max = limit;
      input.value = x;
      shown.textContent = input.value;
    };
    const row = book.element("label", {}, label, input, shown);
    return { row, set, value: () => Number(input.value) };
  },

  figure(caption) {
    const made = book.element("figure", {}, book.element("figcaption", {}, caption));
    made.append(document.createElementNS("http://www.w3.org/2000/svg", "svg"));
    return made;
  },

  // lines: [[name, [[x, y], …]], …]. mark: the x of a line from top to bottom, with points on the
  // lines at `points`.
  plot(figure, { x, y, lines, mark, points = [], label }) {
    const svg = figure.querySelector("svg");
    const left = 38, top = 8, width = 350, height = 180;
    const X = (v) => left + ((v - x[0]) / (x[1] - x[0])) * width;
    const clamp = (v) => Math.min(Math.max(v, y[0] - (y[1] - y[0])), y[1] + (y[1] - y[0]));
    const Y = (v) => top + height - ((clamp(v) - y[0]) / (y[1] - y[0])) * height;
    const parts = [];
    for (const v of book.ticks(...x)) {
      parts.push(`<line class="grid" x1="${X(v)}" x2="${X(v)}" y1="${top}" y2="${top + height}"/>`);
      parts.push(`<text x="${X(v)}" y="${top + height + 14}" text-anchor="middle">${v}</text>`);
    }
    for (const v of book.ticks(...y)) {
      parts.push(`<line class="grid" x1="${left}" x2="${left + width}" y1="${Y(v)}" y2="${Y(v)}"/>`);
      parts.push(`<text x="${left - 5}" y="${Y(v) + 4}" text-anchor="end">${v}</text>`);
    }
    if (mark !== undefined) {
      parts.push(`<line class="axis" x1="${X(mark)}" x2="${X(mark)}" y1="${top}" y2="${top + height}"/>`);
    }
    const clip = `clip-${Math.random().toString(36).slice(2)}`;
    parts.push(`<clipPath id="${clip}"><rect x="${left}" y="${top}" width="${width}" height="${height}"/></clipPath>`);
    lines.forEach(([name, line], i) => {
      const path = line.map(([a, b], j) => `${j ? "L" : "M"}${X(a).toFixed(2)} ${Y(b).toFixed(2)}`);
      const kind = ["c0", "c1_", "c2", "c3"][i];
      parts.push(`<path class="${kind}" clip-path="url(#${clip})" d="${path.join("")}"/>`);
      const at = left + i * 88;
      parts.push(`<line class="${kind}" x1="${at}" x2="${at + 20}" y1="226" y2="226"/>`);
      parts.push(`<text x="${at + 24}" y="230">${name}</text>`);
    });
    for (const [a, b] of points) {
      parts.push(`<circle class="here" clip-path="url(#${clip})" cx="${X(a)}" cy="${Y(b)}" r="4"/>`);
    }
    svg.setAttribute("viewBox", "0 0 400 240");
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", label);
    svg.innerHTML = parts.join("");
  },

  ticks(low, high) {
    const rough = (high - low) / 5, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
    const found = [];
    for (let i = Math.ceil(low / step); i * step <= high + 1e-9; i++) {
      found.push(Number((i * step).toPrecision(6)));
    }
    return found;
  },

  range(low, high, parts) {
    return Array.from({ length: parts + 1 }, (_, i) => low + ((high - low) * i) / parts);
  },

  table(head, rows) {
    const cells = (row, name) => row.map((cell, i) => {
      return book.element(i ? name : "th", i ? {} : { scope: name === "th" ? "col" : "row" }, String(cell));
    });
    const body = book.element("tbody", {}, ...rows.map((row) => book.element("tr", {}, ...cells(row, "td"))));
    const top = book.element("thead", {}, book.element("tr", {}, ...cells(head, "th")));
    const table = book.element("table", {}, top, body);
    return book.element("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "table" }, table);
  },

  number(value, digits = 3) {
    const written = value.toFixed(digits);
    return (Number(written) === 0 ? written.replace("-", "") : written).replace("-", "−"); // no −0.00
  },

  // How far the numbers of this script are from Python's. found(...given) -> as `is` in the data
  distance(checks, found) {
    const flat = (x) => (Array.isArray(x) ? x : x && typeof x === "object" ? Object.values(x) : [x]);
    const all = (x) => (flat(x)[0] instanceof Object ? flat(x).flatMap(all) : flat(x));
    let largest = 0;
    for (const check of checks) {
      const ours = all(found(...check.given)), pythons = all(check.is);
      if (ours.length !== pythons.length) return Infinity;
      ours.forEach((x, i) => {
        largest = Math.max(largest, Math.abs(x - pythons[i])); // and NaN stays
      });
    }
    return largest;
  },

  // Builds a playground: parts(update) -> { controls, views, show }
  play(game, title, checks, found, build) {
    for (const section of document.querySelectorAll(`[data-game="${game}"]`)) {
      const form = book.element("form");
      form.addEventListener("submit", (event) => event.preventDefault());
      let show = () => {};
      const { controls, views, update } = build(() => show());
      form.append(...controls);
      const apart = book.distance(checks, found);
      const says = `Compared with ${checks.length} results of the Python code: the largest difference is ${apart.toExponential(0)}.`;
      const check = book.element("p", { class: "check", "data-apart": apart }, says);
      section.append(book.element("p", {}, title), form, ...views);
      if (checks.length) section.append(check);
      show = update;
      show();
    }
  },
};
