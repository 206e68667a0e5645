// The clip: the objective of one token and its derivative by log π, against the ratio.

(function () {
  const { rows, p_old: pOld, checks } = book.data("clip");

  // As grpo_objective and prorl_objective: min(ρÂ, clip(ρ)Â). With one token GSPO's ratio is ρ.
  function clipped(ratio, A, { low, high }) {
    const inside = Math.min(Math.max(ratio, 1 - low), 1 + high);
    const isClipped = inside * A < ratio * A;
    return [isClipped ? inside * A : ratio * A, isClipped ? 0 : ratio * A];
  }

  // CISPO: the clipped ratio is a constant weight of log π, so a clipped token keeps its gradient.
  function weighted(ratio, A, { low, high }) {
    const weight = Math.min(Math.max(ratio, 1 - (low ?? Infinity)), 1 + high) * A;
    return [weight * Math.log(pOld * ratio), weight];
  }

  const rules = {
    grpo_objective: clipped,
    prorl_objective: clipped,
    cispo_objective: weighted,
  };
  const found = (row, ratio, A) => rules[rows[row].rule](ratio, A, rows[row]);

  const title =
    "Move the ratio ρ. With a positive Â the push upwards ends at the upper clip: the gradient is " +
    "0 there. With a negative Â the push downwards ends at the lower clip. On the other side " +
    "nothing is clipped. CISPO clips only the weight, so a clipped token keeps its gradient. GSPO " +
    "clips the ratio of the whole completion. " +
    `(Here it is one token, whose probability was ${pOld} in the rollout.)`;
  book.play("clip", title, checks, found, (changed) => {
    const choice = book.element("select", { "aria-label": "algorithm" });
    rows.forEach(({ name, low, high }, i) => {
      choice.append(book.element("option", { value: i }, `${name}: −${low ?? "∞"}, +${high}`));
    });
    choice.addEventListener("change", changed);
    const ratio = book.slider("ratio ρ", { min: 0.3, max: 2, step: 0.01, value: 1.3 }, changed);
    const A = book.slider("advantage Â", { min: -2, max: 2, step: 0.1, value: 1 }, changed);
    const J = book.figure("objective J"), slope = book.figure("gradient ∂J/∂log π");
    const says = book.element("p", { class: "says", "aria-live": "polite" });
    const grid = book.range(0.3, 2, 340);
    function update() {
      const row = Number(choice.value), at = [ratio.value(), A.value()];
      const [value, gradient] = found(row, ...at);
      const curve = (i) => grid.map((x) => [x, found(row, x, at[1])[i]]);
      const mark = at[0];
      [[J, 0, value], [slope, 1, gradient]].forEach(([figure, i, y]) => {
        const line = curve(i);
        const size = Math.max(0.5, ...line.map(([, b]) => Math.abs(b))) * 1.05;
        const label = `${i ? "gradient" : "objective"} against the ratio: ${book.number(y)} at ${mark}`;
        book.plot(figure, {
          x: [0.3, 2], y: [-size, size], lines: [[i ? "gradient" : "J", line]], mark,
          points: [[mark, y]], label,
        });
      });
      const { low, high } = rows[row];
      const where = mark > 1 + high ? "above 1 + ε_high" : mark < 1 - (low ?? Infinity) ? "below 1 − ε_low" : "inside the clip";
      says.textContent =
        `ρ is ${where}. J = ${book.number(value)}, gradient = ${book.number(gradient)}` +
        (gradient === 0 && at[1] ? ": the push has ended." : ".");
    }
    const controls = [book.element("label", {}, "algorithm", choice), ratio.row, A.row];
    const views = [book.element("div", { class: "plots" }, J, slope), says];
    return { controls, views, update };
  });
})();
