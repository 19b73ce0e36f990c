// The attributes' sliders, in groups.

import { signed, words } from "./text.js";

const [LOW, HIGH, STEP] = [-2, 2, 0.05]; // strengths
// Headings, and the names of the attributes below them; all others are below FACE.
const GROUPS = [
  ["Hair", /hair|bald|bangs|sideburns/i],
  ["Beard", /beard|mustache|goatee|shadow/i],
  ["Wearing", /glasses|wearing|makeup/i],
];
const FACE = "Face";

export class Sliders {
  // container: the element to fill. move: called with an attribute's index, its new strength and
  // whether the change is a step of its own; grip: called when a pointer takes a slider; choose:
  // called with the index of the attribute that is used.
  constructor(container, { attributes, calibration }, { move, grip, choose }) {
    this.rows = attributes.map((name) => new Row(name, calibration[name] ?? []));
    for (const [index, { input, button }] of this.rows.entries()) {
      input.addEventListener("input", () => move(index, Number(input.value), false));
      input.addEventListener("pointerdown", grip);
      input.addEventListener("focus", () => choose(index));
      button.addEventListener("click", () => move(index, 0, true));
    }
    container.replaceChildren(...grouped(attributes, this.rows));
  }

  // Shows strengths, by the attribute's index.
  show(strengths) {
    for (const [index, row] of this.rows.entries()) row.show(strengths[index]);
  }

  enable(on) {
    for (const { input, button } of this.rows) input.disabled = button.disabled = !on;
  }
}

class Row {
  constructor(name, table) {
    this.table = table;
    this.element = Object.assign(document.createElement("div"), { className: "attribute" });
    this.input = Object.assign(document.createElement("input"), {
      type: "range", id: `strength-${name}`, min: LOW, max: HIGH, step: STEP, value: 0,
    });
    const label = Object.assign(document.createElement("label"), {
      htmlFor: this.input.id, textContent: words(name),
    });
    this.measured = Object.assign(document.createElement("span"), { className: "measured" });
    this.output = document.createElement("output");
    this.output.htmlFor = this.input.id;
    this.button = Object.assign(document.createElement("button"), {
      type: "button", textContent: "↺", title: "Reset",
    });
    this.button.setAttribute("aria-label", `Reset ${words(name)}`);
    this.element.append(label, this.measured, this.output, this.input, this.button);
  }

  show(strength) {
    this.input.value = strength;
    const change = changeAt(this.table, strength);
    this.output.textContent = signed(strength);
    this.measured.textContent = change === undefined ? "not measured" : `${signed(change)} on average`;
    if (!strength) this.measured.textContent = "unedited";
    this.input.setAttribute("aria-valuetext", `${signed(strength)}, ${this.measured.textContent}`);
    this.element.classList.toggle("edited", strength !== 0);
    // The colored part of the track, from the middle to the thumb, in percent.
    const place = ((strength - LOW) / (HIGH - LOW)) * 100;
    this.input.style.setProperty("--from", `${Math.min(place, 50)}%`);
    this.input.style.setProperty("--to", `${Math.max(place, 50)}%`);
  }
}

// The rows under their headings; without headings where one would be the only one.
function grouped(attributes, rows) {
  const groups = new Map();
  for (const [index, name] of attributes.entries()) {
    const heading = GROUPS.find(([, names]) => names.test(name))?.[0] ?? FACE;
    if (!groups.has(heading)) groups.set(heading, []);
    groups.get(heading).push(rows[index].element);
  }
  if (groups.size === 1) return rows.map(({ element }) => element);
  return [...groups].map(([heading, elements]) => {
    const set = Object.assign(document.createElement("fieldset"), { className: "group" });
    set.append(Object.assign(document.createElement("legend"), { textContent: heading }), ...elements);
    return set;
  });
}

// The change measured at a strength, interpolated in the table; undefined outside of it.
function changeAt(table, strength) {
  const points = [...table, { strength: 0, change: 0 }].sort((a, b) => a.strength - b.strength);
  const above = points.findIndex((point) => point.strength >= strength);
  if (above < 0 || !table.length) return undefined;
  const high = points[above];
  if (high.strength === strength) return high.change;
  const low = points[above - 1];
  if (!low) return undefined;
  const share = (strength - low.strength) / (high.strength - low.strength);
  return low.change + (high.change - low.change) * share;
}
