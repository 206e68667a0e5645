// The search trees of a base and an RL model, as columns of cells. A cell is a token, and its
// height is the share of the samples that go this way. Zooming shows the part below one prefix.

(function () {
  const { samples, problems } = book.data("trees");
  const END = "■", COLUMNS = 14, SMALLEST = 3; // pixels
  const models = [["base", "the base"], ["rl", "the RL model"]];

  // {token, prefix, count, correct, children} of [[text, count, is it correct], …]
  function tree(texts) {
    const root = { token: "", prefix: "", count: 0, correct: 0, children: new Map() };
    for (const [text, count, correct] of texts) {
      let at = root;
      at.count += count;
      at.correct += count * correct;
      [...text].forEach((token, i) => {
        if (!at.children.has(token)) {
          const prefix = text.slice(0, i + 1);
          at.children.set(token, { token, prefix, count: 0, correct: 0, children: new Map(), parent: at });
        }
        at = at.children.get(token);
        at.count += count;
        at.correct += count * correct;
      });
    }
    return root;
  }

  const find = (root, prefix) => [...prefix].reduce((at, token) => at?.children.get(token), root);
  const percent = (x) => `${(100 * x).toFixed(x < 0.1 ? 1 : 0)} %`;
  const visible = (prefix) => prefix.replace(END, "") || "the beginning";

  // What the cell says when it is read out.
  function says({ prefix, token, count, correct, parent }) {
    const way = token === END ? `${visible(prefix)} ends` : visible(prefix);
    const next = percent(count / parent.count);
    return `${way}: ${count} of ${samples} samples, ${correct} of them correct; ${next} of those before`;
  }

  // [{node, column, top, height}, …] of the part below a node, with heights as shares
  function layout(node) {
    const cells = [];
    (function place(at, column, top) {
      const children = [...at.children.values()].sort((a, b) => b.count - a.count);
      for (const child of children) {
        const height = child.count / node.count;
        cells.push({ node: child, column, top, height });
        if (column + 1 < COLUMNS) place(child, column + 1, top);
        top += height;
      }
    })(node, 0, 0);
    return cells;
  }

  book.trees = { tree, find, layout };

  const title = "Choose a problem. The numbers show how many samples of each model are correct.";
  book.play("trees", title, [], () => [], (changed) => {
    const choice = book.element("select", { "aria-label": "problem" });
    const roots = problems.map((problem) => models.map(([name]) => tree(problem[name])));
    const kinds = ["RL makes a right path likelier", "RL loses the right paths", "little changes"];
    const groups = kinds.map((label) => book.element("optgroup", { label }));
    problems.forEach(({ prompt }, i) => {
      const [base, rl] = roots[i].map((root) => root.correct);
      const kind = base && !rl ? 1 : rl > 2 * base ? 0 : 2;
      groups[kind].append(book.element("option", { value: i }, `${prompt}  base ${base}, RL ${rl}`));
    });
    choice.append(...groups.filter((group) => group.children.length));
    let prefix = "";
    const path = book.element("p", { class: "path" });
    const readout = book.element("p", { class: "readout", "aria-live": "polite" });
    const boxes = models.map(([, name]) => ({
      name,
      heading: book.element("h2"),
      box: book.element("div", { class: "tree", role: "group", "aria-label": `tree of ${name}` }),
    }));
    const forest = book.element("div", { class: "forest" });
    for (const { heading, box } of boxes) forest.append(book.element("div", {}, heading, box));
    choice.addEventListener("change", () => zoom(""));

    function zoom(to) {
      prefix = to;
      changed();
    }

    function tell(node) {
      const roots_ = roots[Number(choice.value)];
      readout.textContent = models
        .map(([, name], i) => {
          const same = find(roots_[i], node.prefix);
          if (!same) return `${name} never goes this way`;
          const next = percent(same.count / same.parent.count);
          return `${name}: ${same.count} of ${samples} samples (${next} of those before), ${same.correct} correct`;
        })
        .join("; ");
      readout.prepend(book.element("code", {}, visible(node.prefix)), " ");
    }

    function draw({ box, heading, name }, root) {
      const node = find(root, prefix);
      heading.textContent = node
        ? `${name}: ${node.correct} of ${node.count} samples are correct`
        : `${name}: no sample goes this way`;
      const cells = node ? layout(node) : [];
      const size = box.clientHeight;
      const shown = cells.filter((cell) => cell.height * size >= SMALLEST);
      const columns = Math.max(1, ...shown.map((cell) => cell.column + 1));
      const buttons = new Map();
      for (const { node: at, column, top, height } of shown) {
        const mark = at.token === END ? (at.correct ? "✓" : "✗") : at.token;
        const hasRoom = height * size >= 16 && box.clientWidth / columns >= 66;
        const button = book.element("button", { type: "button", tabindex: "-1", "aria-label": says(at) });
        if (height * size >= 11) button.textContent = hasRoom ? `${mark} ${percent(at.count / samples)}` : mark;
        if (at.token === END) button.className = at.correct ? "right" : "wrong";
        button.style.cssText =
          `left:${(100 * column) / columns}%;width:${100 / columns}%;top:${100 * top}%;height:${100 * height}%`;
        button.addEventListener("click", () => at.children.size && zoom(at.prefix));
        for (const event of ["pointerenter", "focus"]) button.addEventListener(event, () => tell(at));
        buttons.set(at, button);
      }
      box.replaceChildren(...buttons.values());
      if (buttons.size) [...buttons.values()][0].tabIndex = 0;
      box.onkeydown = (event) => move(event, buttons, node);
    }

    function move(event, buttons, top) {
      const here = [...buttons].find(([, button]) => button === document.activeElement)?.[0];
      if (!here) return;
      const among = (nodes) => [...nodes].filter((node) => buttons.has(node)).sort((a, b) => b.count - a.count);
      const siblings = among(here.parent.children.values());
      const beside = (step) => siblings[siblings.indexOf(here) + step];
      const to = {
        ArrowRight: () => among(here.children.values())[0],
        ArrowLeft: () => (here.parent === top ? null : here.parent),
        ArrowDown: () => beside(1),
        ArrowUp: () => beside(-1),
      }[event.key]?.();
      if (event.key.startsWith("Arrow")) event.preventDefault();
      if (to) {
        for (const button of buttons.values()) button.tabIndex = -1;
        buttons.get(to).tabIndex = 0;
        buttons.get(to).focus();
      }
    }

    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && prefix && forest.contains(document.activeElement)) {
        zoom(prefix.slice(0, -1));
      }
    });

    function update() {
      const hadFocus = boxes.findIndex(({ box }) => box.contains(document.activeElement));
      path.replaceChildren("path: ");
      [..."x", ...prefix].forEach((token, i) => {
        const button = book.element("button", { type: "button" }, i ? token : "begin");
        button.addEventListener("click", () => zoom(prefix.slice(0, i)));
        path.append(button);
      });
      boxes.forEach((box, i) => draw(box, roots[Number(choice.value)][i]));
      if (hadFocus >= 0) boxes[hadFocus].box.querySelector("[tabindex='0']")?.focus();
    }
    window.addEventListener("resize", update);
    return { controls: [book.element("label", {}, "problem", choice)], views: [path, forest, readout], update };
  });
})();
