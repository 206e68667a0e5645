// pass@k from c correct of n samples, and the estimate that draws with replacement.

(function () {
  const { checks } = book.data("passk");

  // 1 − C(n−c, k)/C(n, k), as the product of passk.py
  function unbiased(n, c, k) {
    let none = 1;
    for (let i = n - c + 1; i <= n; i++) none *= Math.max(0, 1 - k / i);
    return 1 - none;
  }

  const replaced = (n, c, k) => 1 - (1 - c / n) ** k;

  // The mean of an estimate over c, if each sample is correct with probability p.
  function mean(estimate, n, p, k) {
    if (p === 0 || p === 1) return estimate(n, p * n, k);
    let ways = 0, total = 0; // log C(n, c): the chances themselves can be too small for a number
    for (let c = 0; c <= n; c++) {
      total += Math.exp(ways + c * Math.log(p) + (n - c) * Math.log(1 - p)) * estimate(n, c, k);
      ways += Math.log((n - c) / (c + 1));
    }
    return total;
  }

  function found(n, c, k) {
    const estimates = [unbiased, replaced];
    return [...estimates.map((f) => f(n, c, k)), ...estimates.map((f) => mean(f, n, c / n, k))];
  }

  const title =
    "n samples of one problem, of which c are correct. The unbiased estimate (2) draws k of the n " +
    "samples without replacement. 1 − (1 − c/n)^k draws them with replacement, and is too low, on " +
    "average, for a small n.";
  book.play("passk", title, checks, found, (changed) => {
    let limits = () => {};
    const moved = () => (limits(), changed());
    const n = book.slider("samples n", { min: 1, max: 256, step: 1, value: 16 }, moved);
    const c = book.slider("correct c", { min: 0, max: 16, step: 1, value: 2 }, moved);
    const k = book.slider("attempts k", { min: 1, max: 16, step: 1, value: 8 }, moved);
    limits = () => {
      c.set(Math.min(c.value(), n.value()), n.value());
      k.set(Math.min(k.value(), n.value()), n.value());
    };
    const curve = book.figure("estimates of pass@k against k");
    const says = book.element("div", { class: "says", "aria-live": "polite" });
    function update() {
      const [N, C, K] = [n.value(), c.value(), k.value()];
      const ks = Array.from({ length: N }, (_, i) => i + 1);
      const lines = [
        ["unbiased (2)", ks.map((x) => [x, unbiased(N, C, x)])],
        ["replaced", ks.map((x) => [x, replaced(N, C, x)])],
      ];
      const [a, b, meanA, meanB] = found(N, C, K);
      const label = `pass@k against k: ${book.number(a)} at k = ${K}`;
      const x = [1, Math.max(2, N)];
      book.plot(curve, { x, y: [0, 1], lines, mark: K, points: [[K, a], [K, b]], label });
      const truth = 1 - (1 - C / N) ** K;
      says.replaceChildren(
        book.table(["estimate", `of pass@${K}`, "its mean, if c/n is the true rate", "the truth then"], [
          ["1 − C(n−c, k)/C(n, k)", book.number(a), book.number(meanA), book.number(truth)],
          ["1 − (1 − c/n)^k", book.number(b), book.number(meanB), book.number(truth)],
        ]),
      );
    }
    const views = [book.element("div", { class: "plots" }, curve, says)];
    return { controls: [n.row, c.row, k.row], views, update };
  });
})();
