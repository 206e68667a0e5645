// The advantages of one group under every row of ALGORITHMS.

(function () {
  const { rows, checks } = book.data("advantage");
  const mean = (x) => x.reduce((a, b) => a + b, 0) / x.length;
  const std = (x) => Math.sqrt(mean(x.map((a) => (a - mean(x)) ** 2)));
  const hasSpread = (x) => Math.max(...x) > Math.min(...x);
  const where = (condition, x) => x.map((a) => (condition ? a : 0));
  const centred = (r) => where(hasSpread(r), r.map((x) => x - mean(r)));

  // By the name of the function in grpo.py: rewards, the reward of the greedy completion, k -> Â
  const rules = {
    group_advantage: (r) => where(hasSpread(r), centred(r).map((x) => x / std(r))),
    centred_advantage: centred,
    leave_one_out_advantage: (r) => centred(r).map((x) => (x * r.length) / (r.length - 1)),
    greedy_advantage: (r, greedy) => r.map((x) => x - greedy),
    plain_advantage: (r) => r,
    negative_advantage: (r) => r.map((x) => x - 1),
    weighted_advantage: (r) => r.map((x) => 0.1 * x - (1 - x)),
    maxrl_advantage: (r) => {
      const solved = r.map((x) => Number(x === 1)), rate = mean(solved);
      return solved.map((x) => (rate ? (x - rate) / rate : 0));
    },
    pass_at_k_advantage: (r, greedy, k) => {
      if (k === 1) return rules.group_advantage(r);
      const solved = r.map((x) => Number(x === 1)), others = r.length - 1;
      const wrong = others - solved.reduce((a, b) => a + b, 0);
      let allWrong = 1;
      for (let j = 0; j < k - 1; j++) allWrong *= Math.max(0, wrong - j) / (others - j);
      const R = solved.map((x) => x + (1 - x) * (1 - allWrong)), rate = mean(R);
      return where(hasSpread(R), R.map((x) => (x - rate) / Math.sqrt(rate * (1 - rate))));
    },
  };

  function whiten(x) {
    return Math.max(...x) - Math.min(...x) <= 1e-13 ? x.map(() => 0) : x.map((a) => (a - mean(x)) / std(x));
  }

  function found(rewards, greedy, k) {
    const all = {};
    for (const { name, rule, whitened } of rows) {
      const a = rules[rule](rewards, greedy, k);
      all[name] = whitened ? whiten(a) : a;
    }
    return all;
  }

  const title =
    "The rewards of one group, separated by spaces: change them. Each row is an algorithm. " +
    "REINFORCE++ whitens over the whole batch; here the batch is this group. ReMax compares with " +
    "the reward of the greedy completion.";
  book.play("advantage", title, checks, found, (changed) => {
    const input = book.element("input", { type: "text", value: "1 0 0 1 0", inputmode: "decimal", spellcheck: "false" });
    input.addEventListener("input", changed);
    const greedy = book.slider("greedy reward", { min: 0, max: 1, step: 0.1, value: 0 }, changed);
    const k = book.slider("k of pass@k", { min: 1, max: 5, step: 1, value: 4 }, changed);
    const view = book.element("div", { class: "says", "aria-live": "polite" });
    function update() {
      const rewards = input.value.split(/[\s,;]+/).filter(Boolean).map(Number);
      const right = rewards.length >= 2 && rewards.every(Number.isFinite);
      input.setAttribute("aria-invalid", String(!right));
      if (!right) {
        view.textContent = "At least two numbers are needed.";
        return;
      }
      k.set(Math.min(k.value(), rewards.length), rewards.length);
      const all = found(rewards, greedy.value(), k.value());
      view.replaceChildren(
        book.table(
          ["reward", ...rewards.map((x) => book.number(x, 2))],
          Object.entries(all).map(([name, a]) => [name, ...a.map((x) => book.number(x, 2))]),
        ),
      );
    }
    return { controls: [book.element("label", {}, "rewards", input), greedy.row, k.row], views: [view], update };
  });
})();
