/** Two photos side by side, their maps in the same colours. */

import { dial } from "./dial.js";
import { element } from "./elements.js";
import { span } from "./qualitymap.js";
import { Viewer, mapControls } from "./viewer.js";
import { STAGES, found, likely, capital, verdict } from "./words.js";

/**
 * Make the comparison.
 * @param {Photo[]} pair Two scored photos.
 * @param {Object} model From the service's list of models.
 * @param {?number} error How many points the model is off on average.
 * @param {function()} close Called to leave it.
 */
export function comparison(pair, model, error, close) {
  const viewers = pair.map((photo) => new Viewer(photo));
  const maps = pair.map(({ map }) => map).filter(Boolean);
  let controls = null;
  if (maps.length === 2) {
    const range = span(...maps);
    viewers.forEach((viewer, place) => viewer.showMap(maps[place], range));
    controls = mapControls(viewers, range);
  }
  const sides = pair.map((photo, place) =>
    element(
      "section",
      { class: "side" },
      element("h3", {}, photo.name),
      dial(photo.answer, model, error),
      viewers[place].element,
    ),
  );
  const scored = pair.map(({ name, answer }) => ({ name, score: answer.score }));
  return element(
    "article",
    { class: "comparison" },
    element(
      "div",
      { class: "head" },
      element("h2", { tabindex: -1 }, "Side by side"),
      element("button", { type: "button", click: close }, "Close comparison"),
    ),
    element("p", { class: "lead" }, verdict(...scored, error)),
    controls,
    element("div", { class: "sides" }, sides),
    figures(pair),
  );
}

function figures(pair) {
  const answers = pair.map(({ answer }) => answer);
  const rows = [
    ["Score", (answer) => answer.score.toFixed(1)],
    ["Grade", (answer) => (answer.grade ? capital(answer.grade) : "–")],
    ["Higher than, of 100 photos", (answer) => (answer.percentile === null ? "–" : answer.percentile.toFixed(0))],
    ["Likely", (answer) => likely(answer) || "–"],
    ["What may be wrong", (answer) => (answer.defects ? found(answer).map(({ name }) => name).join(", ") || "nothing" : "–")],
    ["Size", ({ image }) => `${image.width} × ${image.height} ${image.format}`],
  ];
  if (answers.every((answer) => answer.stage_weights)) {
    STAGES.forEach(({ name }, place) => {
      rows.push([`Looked at ${name.toLowerCase()}`, (answer) => `${Math.round(100 * answer.stage_weights[place])} %`]);
    });
  }
  return element(
    "table",
    { class: "card figures" },
    element("caption", {}, "In figures"),
    element(
      "thead",
      {},
      element("tr", {}, element("td", {}), pair.map(({ name }) => element("th", { scope: "col" }, name))),
    ),
    element(
      "tbody",
      {},
      rows.map(([name, value]) =>
        element("tr", {}, element("th", { scope: "row" }, name), answers.map((answer) => element("td", {}, value(answer)))),
      ),
    ),
  );
}
