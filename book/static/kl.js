// k1, k2 and k3 of one token, and what each pushes as a loss.

(function () {
  const { checks } = book.data("kl");
  // d = log π − log π_ref -> k1, its derivative by log π, k2, its, k3, its
  const found = (d) => [d, 1, (d * d) / 2, d, Math.expm1(-d) + d, -Math.expm1(-d)];
  const title =
    "d = log π − log π_ref of one sampled token. All three estimate the KL. k1 can be negative. " +
    "k3 is never negative and has the mean of k1. As losses they push differently: k1 pushes every " +
    "token alike, which is 0 on average.";
  book.play("kl", title, checks, found, (changed) => {
    const d = book.slider("d", { min: -2.5, max: 2.5, step: 0.05, value: 0.7 }, changed);
    const value = book.figure("the estimate"), slope = book.figure("its derivative by log π");
    const says = book.element("p", { class: "says", "aria-live": "polite" });
    const grid = book.range(-2.5, 2.5, 200);
    function update() {
      const at = found(d.value());
      [[value, 0, [-2.5, 4]], [slope, 1, [-3, 2.5]]].forEach(([figure, shift, y]) => {
        const lines = ["k1", "k2", "k3"].map((name, i) => {
          return [name, grid.map((x) => [x, found(x)[2 * i + shift]])];
        });
        const points = [0, 1, 2].map((i) => [d.value(), at[2 * i + shift]]);
        const label = `k1, k2 and k3 ${shift ? "as losses" : ""} against d`;
        book.plot(figure, { x: [-2.5, 2.5], y, lines, mark: d.value(), points, label });
      });
      const [k1, , k2, , k3] = at.map((x) => book.number(x));
      const ratio = book.number(Math.exp(-d.value()));
      says.textContent = `π_ref/π = ${ratio}: k1 = ${k1}, k2 = ${k2}, k3 = ${k3}.`;
    }
    const views = [book.element("div", { class: "plots" }, value, slope), says];
    return { controls: [d.row], views, update };
  });
})();
