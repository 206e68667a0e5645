// GAE over one real completion: δ, Â and R̂ of each token for any γ and λ.

(function () {
  const { prompt, letters, rewards, values, checks } = book.data("gae");

  function found(gamma, lambda) {
    const delta = rewards.map((r, t) => r + gamma * (values[t + 1] ?? 0) - values[t]);
    const A = [...delta];
    for (let t = A.length - 2; t >= 0; t--) A[t] += gamma * lambda * A[t + 1];
    return [delta, A, A.map((a, t) => a + values[t])];
  }

  const text = letters.slice(0, -1).join("");
  const title =
    `A completion of a PPO run: ${prompt} ${text}. With λ = 0 an advantage is the TD error δ. With ` +
    "λ = 1 it is the sum of all rewards to come, minus V. Between them the score of the last token " +
    "reaches back with the weight (γλ)^l.";
  book.play("gae", title, checks, found, (changed) => {
    const gamma = book.slider("discount γ", { min: 0, max: 1, step: 0.01, value: 1 }, changed);
    const lambda = book.slider("λ", { min: 0, max: 1, step: 0.01, value: 0.95 }, changed);
    const curve = book.figure("advantage Â, return R̂ and value V of each token");
    const view = book.element("div", { class: "says", "aria-live": "polite" });
    function update() {
      const [delta, A, R] = found(gamma.value(), lambda.value());
      const numbers = [...A, ...R, ...values];
      const y = [Math.min(0, ...numbers) - 0.1, Math.max(1, ...numbers) + 0.1];
      const line = (x) => x.map((value, t) => [t + 1, value]);
      const lines = [["Â", line(A)], ["R̂", line(R)], ["V", line(values)]];
      const label = `Â of the first token is ${book.number(A[0])}`;
      book.plot(curve, { x: [1, letters.length], y, lines, label });
      const row = (name, x) => [name, ...x.map((value) => book.number(value, 2))];
      view.replaceChildren(
        book.table(["token", ...letters.map((x) => x.replace("<|eos|>", "eos"))], [
          row("r", rewards), row("V", values), row("δ", delta), row("Â", A), row("R̂", R),
        ]),
      );
    }
    const views = [book.element("div", { class: "plots" }, curve, view)];
    return { controls: [gamma.row, lambda.row], views, update };
  });
})();
