/** The table of all photos: sorted by any column, two of them ticked for a comparison. */

import { ofGrade } from "./colours.js";
import { element, icon } from "./elements.js";
import { CAUTIONS, OUTCOMES, PLAIN, capital, count, found, likely, ofProblem } from "./words.js";

/** Values to sort by; photos without one come last. */
const ORDERS = {
  number: (photo) => photo.number,
  name: (photo) => photo.name.toLowerCase(),
  score: (photo) => photo.answer?.score,
  likely: (photo) => photo.answer && (photo.answer.interval ? photo.answer.interval.high - photo.answer.interval.low : photo.answer.stderr),
  size: (photo) => photo.answer && photo.answer.image.width * photo.answer.image.height,
  notes: (photo) => photo.answer?.warnings.length,
};

export class List {
  #rows = new Map();
  #body;
  #headings = new Map();
  #order = "number";
  #descending = false;
  #open;
  #onTick;

  /**
   * @param {HTMLTableElement} table With its head in place; buttons there name what they sort by.
   * @param {function(Photo)} open Called with a photo to be shown.
   * @param {function()} onTick Called when another photo was ticked.
   */
  constructor(table, open, onTick) {
    this.#body = table.tBodies[0];
    this.#open = open;
    this.#onTick = onTick;
    for (const button of table.querySelectorAll("thead button")) {
      this.#headings.set(button.dataset.order, button.closest("th"));
      button.addEventListener("click", () => this.#sortBy(button.dataset.order));
    }
  }

  /** All photos in the order of the table. */
  get photos() {
    return [...this.#rows.keys()].sort((one, other) => this.#compare(one, other));
  }

  /** The photos to compare: the ticked ones, or the only two that are scored. */
  get pair() {
    const { scored } = this;
    const ticked = scored.filter((photo) => this.#rows.get(photo).tick.checked);
    return ticked.length === 0 && scored.length === 2 ? scored : ticked;
  }

  /** The photos that have a score, as they came. */
  get scored() {
    return [...this.#rows.keys()].filter(({ state }) => state === "done");
  }

  add(photo) {
    const tick = element("input", { type: "checkbox", "aria-label": `Compare ${photo.name}`, change: () => this.#ticked(tick) });
    const name = element("button", { type: "button", class: "name", click: () => this.#open(photo) }, photo.name);
    const cells = Object.fromEntries(["thumbnail", "score", "likely", "size", "notes"].map((key) => [key, element("td", { class: key })]));
    const more = element("span", { class: "more" });
    const row = element(
      "tr",
      {},
      element("td", { class: "tick" }, tick),
      cells.thumbnail,
      element("th", { scope: "row" }, name, more),
      [cells.score, cells.likely, cells.size, cells.notes],
    );
    row.addEventListener("click", (event) => {
      if (!event.target.closest("button, input, .tick")) this.#open(photo);
    });
    this.#rows.set(photo, { row, tick, name, more, cells });
    this.#body.append(row);
    this.update(photo);
  }

  /** Show what has become of a photo. */
  update(photo) {
    const { row, tick, more, cells } = this.#rows.get(photo);
    const { answer, state } = photo;
    row.className = state;
    tick.disabled = state !== "done";
    cells.thumbnail.replaceChildren(photo.thumbnail ?? icon("picture"));
    cells.score.replaceChildren(...score(photo));
    cells.likely.textContent = answer ? likely(answer) : "";
    cells.size.textContent = answer ? `${answer.image.width} × ${answer.image.height}` : "";
    cells.notes.textContent = notes(photo);
    more.textContent = state === "failed" ? ofProblem(photo.problem) : photo.delay;
    if (state === "done" || state === "failed") this.#arrange();
  }

  /** Mark the photo that is shown large. */
  set current(shown) {
    for (const [photo, { row, name }] of this.#rows) {
      row.classList.toggle("current", photo === shown);
      if (photo === shown) name.setAttribute("aria-current", "true");
      else name.removeAttribute("aria-current");
    }
  }

  clear() {
    this.#rows.clear();
    this.#body.replaceChildren();
  }

  #ticked(last) {
    const others = [...this.#rows.values()].filter(({ tick }) => tick.checked && tick !== last);
    // A third one takes the place of the first.
    if (last.checked && others.length > 1) others[0].tick.checked = false;
    this.#onTick();
  }

  #sortBy(order) {
    // Numbers are of interest from the best down, names from A on.
    this.#descending = order === this.#order ? !this.#descending : order !== "name" && order !== "number";
    this.#order = order;
    for (const [name, heading] of this.#headings) {
      if (name === order) heading.setAttribute("aria-sort", this.#descending ? "descending" : "ascending");
      else heading.removeAttribute("aria-sort");
    }
    this.#arrange();
  }

  #arrange() {
    const focused = document.activeElement;
    const wanted = this.photos.map((photo) => this.#rows.get(photo).row);
    wanted.forEach((row, place) => {
      const there = this.#body.children[place];
      if (there !== row) this.#body.insertBefore(row, there);
    });
    // A row that moves lets go of the focus.
    if (focused !== document.activeElement) focused.focus({ preventScroll: true });
  }

  #compare(one, other) {
    const value = ORDERS[this.#order];
    const [left, right] = [value(one), value(other)];
    const missing = (left ?? null) === null ? 1 : 0;
    const otherMissing = (right ?? null) === null ? 1 : 0;
    if (missing || otherMissing) return missing - otherMissing || one.number - other.number;
    const order = typeof left === "string" ? left.localeCompare(right, "en", { numeric: true }) : left - right;
    return (this.#descending ? -order : order) || one.number - other.number;
  }
}

function notes({ answer }) {
  if (answer?.decision) return OUTCOMES[answer.decision.outcome];
  const plain = answer ? found(answer).filter(({ severity }) => severity >= PLAIN) : [];
  if (plain.length) return plain[0].name + (plain.length > 1 ? ` and ${plain.length - 1} more` : "");
  if (!answer?.warnings.length) return "";
  return answer.warnings.some((code) => code in CAUTIONS) ? "Take care" : count(answer.warnings.length, "note");
}

function score({ state, answer }) {
  if (state === "failed") return [icon("caution"), element("span", { class: "hidden" }, "not scored")];
  if (!answer) return [element("span", { class: "quiet" }, state === "scoring" ? "…" : "waiting")];
  const dot = element("span", { class: "dot", "aria-hidden": "true" });
  dot.style.background = ofGrade(answer.grade);
  return [dot, element("b", {}, answer.score.toFixed(1)), answer.grade ? element("span", { class: "word" }, ` ${capital(answer.grade)}`) : ""];
}
