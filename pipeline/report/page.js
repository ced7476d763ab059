"use strict";
(() => {
  const form = document.getElementById("tools");
  if (!form) return;
  const list = document.getElementById("requests");
  const cards = Array.from(list.querySelectorAll(".request"));
  const shown = document.getElementById("shown");
  const nothing = document.getElementById("nothing");
  const overlay = document.getElementById("overlay");
  const words = new Map(cards.map((card) => [card, card.querySelector(".words").textContent.toLowerCase()]));
  const total = list.dataset.total;

  const has = (card, name) => {
    const wanted = form.elements[name].value;
    return !wanted || card.dataset[name].split("\n").includes(wanted);
  };
  const value = (card, name, absent) => (card.dataset[name] === "" ? absent : Number(card.dataset[name]));
  const orders = {
    given: (a, b) => cards.indexOf(a) - cards.indexOf(b),
    best: (a, b) => value(b, "best", -1) - value(a, "best", -1),
    worst: (a, b) => value(a, "worst", 2) - value(b, "worst", 2),
    spread: (a, b) => value(b, "best", 0) - value(b, "worst", 0) - (value(a, "best", 0) - value(a, "worst", 0)),
  };

  const update = () => {
    const text = form.elements.text.value.trim().toLowerCase();
    let count = 0;
    for (const card of cards) {
      const fits = ["split", "type", "defect", "origin"].every((name) => has(card, name)) && words.get(card).includes(text);
      card.hidden = !fits;
      count += fits;
    }
    const order = orders[form.elements.order.value];
    for (const card of [...cards].sort((a, b) => order(a, b) || orders.given(a, b))) list.append(card);
    shown.textContent = `showing ${count.toLocaleString("en")} of ${total}`;
    nothing.hidden = count > 0;
  };
  const toggle = () => {
    const off = document.body.classList.toggle("no-overlay");
    overlay.setAttribute("aria-pressed", String(!off));
  };

  form.addEventListener("input", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(update));
  overlay.addEventListener("click", toggle);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    if (event.key === "o") toggle();
    if (event.key === "/") {
      event.preventDefault();
      form.elements.text.focus();
    }
  });
  const focus = (event, on) => {
    const row = event.target.closest("tr[data-region]");
    if (!row) return;
    const figure = row.closest("figure");
    figure.classList.toggle("focused", on);
    for (const mask of figure.querySelectorAll(".mask")) {
      mask.classList.toggle("focus", on && (mask.dataset.region === row.dataset.region || (row.dataset.region === "+" && mask.dataset.region.startsWith("+"))));
    }
  };
  list.addEventListener("mouseover", (event) => focus(event, true));
  list.addEventListener("mouseout", (event) => focus(event, false));
  update();
})();
