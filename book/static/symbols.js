// Symbols: pointing at one, or moving the focus to it, lights up all that have the same name, in
// the equations and in the code. A button of a symbol stays lit when it is pressed.

(function () {
  let pinned = null;

  const named = (name) => document.querySelectorAll(`[data-symbol="${name}"]`);

  function light(name) {
    for (const element of document.querySelectorAll(".lit")) element.classList.remove("lit");
    for (const shown of new Set([name, pinned])) {
      if (shown) for (const element of named(shown)) element.classList.add("lit");
    }
  }

  function symbolOf(event) {
    const element = event.target.closest?.("[data-symbol]");
    return element ? element.dataset.symbol ?? element.getAttribute("data-symbol") : null;
  }

  function press(event) {
    const button = event.target.closest?.(".symbols button");
    if (!button) return;
    pinned = pinned === button.dataset.symbol ? null : button.dataset.symbol;
    for (const other of document.querySelectorAll(".symbols button")) {
      other.setAttribute("aria-pressed", String(other.dataset.symbol === pinned));
    }
    light(null);
  }

  // The variables on the line of an equation can be reached with the keyboard, each name once.
  for (const row of document.querySelectorAll(".l.tagged")) {
    const seen = new Set();
    for (const variable of row.querySelectorAll("[data-symbol]")) {
      if (!seen.has(variable.dataset.symbol)) variable.tabIndex = 0;
      seen.add(variable.dataset.symbol);
    }
  }

  document.addEventListener("pointerover", (event) => light(symbolOf(event)));
  document.addEventListener("focusin", (event) => light(symbolOf(event)));
  document.addEventListener("focusout", () => light(null));
  document.addEventListener("click", press);
})();
