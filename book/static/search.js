// The search. The index is a script that is loaded when the field is first used: a page that is
// opened from disk may not fetch files.

(function () {
  const field = document.querySelector(".search input");
  const list = document.querySelector(".found");
  const root = document.currentScript.dataset.root;
  const common = new Set(
    ("a an and are at between can do does for from how i if in is it my of on or s that the this to what " +
      "when where which who why with").split(" "),
  );

  function load() {
    if (document.getElementById("search-index")) return;
    const script = document.createElement("script");
    script.id = "search-index";
    script.src = root + "static/search-index.js";
    script.addEventListener("load", show);
    document.head.append(script);
  }

  const plain = (text) => text.toLowerCase().replace(/[_@?!,;:.'’()]/g, " ");

  // A word counts more in a title than in a text, and a rare word more than a frequent one. A short
  // word is found as a whole word only. What implements an equation comes first, what breaks there
  // after it, and what stands around the nine files last.
  function find(question) {
    const all = plain(question).split(/\s+/).filter(Boolean);
    const words = all.filter((word) => !common.has(word));
    const entries = (window.searchIndex ?? []).map((entry) => ({
      entry,
      title: ` ${plain(entry[0])} `,
      text: ` ${plain(entry[3])} `,
      score: 0,
    }));
    for (const word of words.length ? words : all) {
      const stem = word.length > 4 ? word.replace(/(ing|ed|s)$/, "") : word.length > 3 ? word : ` ${word} `;
      const hits = entries.filter(({ title, text }) => title.includes(stem) || text.includes(stem));
      const weight = Math.log(1 + entries.length / (1 + hits.length));
      for (const hit of hits) {
        const whole = hit.title.includes(` ${word} `);
        hit.score += weight * (whole ? 4 : hit.title.includes(stem) ? 3 : 1);
        if (hit.entry[1].startsWith("equation")) hit.score += weight * 1.5;
        const isAround = /^(tests|tools|book|paper|course|bridges)\//.test(hit.entry[2]);
        if (isAround || hit.entry[1].startsWith("bug")) hit.score -= weight * 1.5;
      }
    }
    return entries.filter((hit) => hit.score > 0).sort((a, b) => b.score - a.score).slice(0, 12);
  }

  function show() {
    const found = field.value.trim() ? find(field.value) : [];
    list.hidden = !field.value.trim() || !window.searchIndex;
    list.replaceChildren(
      ...found.map(({ entry }) => {
        const item = document.createElement("li");
        const link = document.createElement("a");
        const where = document.createElement("small");
        link.href = root + entry[2];
        link.textContent = entry[0];
        where.textContent = entry[1];
        link.append(where);
        item.append(link);
        return item;
      }),
    );
    if (!found.length) list.append(Object.assign(document.createElement("li"), { textContent: "nothing found" }));
  }

  function keys(event) {
    const links = [...list.querySelectorAll("a")];
    const at = links.indexOf(document.activeElement);
    if (event.key === "/" && !/^(INPUT|TEXTAREA)$/.test(document.activeElement.tagName)) {
      event.preventDefault();
      field.focus();
    } else if (event.key === "Escape" && !list.hidden) {
      list.hidden = true;
      field.focus();
    } else if (document.activeElement === field || at >= 0) {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (!step || list.hidden) return;
      event.preventDefault();
      (at + step < 0 ? field : links[Math.min(at + step, links.length - 1)])?.focus();
    }
  }

  field.addEventListener("focus", load);
  field.addEventListener("input", show);
  document.addEventListener("keydown", keys);
  field.form.addEventListener("submit", (event) => {
    event.preventDefault();
    list.querySelector("a")?.click();
  });
  document.addEventListener("click", (event) => {
    if (!event.target.closest(".search")) list.hidden = true;
  });

  // A target inside a folded part opens it.
  function open() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let at = target; at; at = at.parentElement) {
      if (at.tagName === "DETAILS") at.open = true;
    }
    target?.scrollIntoView();
  }
  window.addEventListener("hashchange", open);
  if (location.hash) open();
  window.addEventListener("beforeprint", () => {
    for (const part of document.querySelectorAll("details")) part.open = true;
  });
})();
