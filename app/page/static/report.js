/** What there is to tell of one photo. */

import { dial } from "./dial.js";
import { element, fact, icon } from "./elements.js";
import { span } from "./qualitymap.js";
import { Viewer, mapControls } from "./viewer.js";
import { CAUTIONS, CONVERSIONS, GRADES, OUTCOMES, PLAIN, PROBLEMS, STAGES, capital, count, cropNames, duration, found, ofProblem, remedy, uncertainty } from "./words.js";

const PARTS = "The model looks at these parts of the photo; the score is their mean.";
const WHOLE = "The score is that of the whole photo; at these parts the model looked closely, for defects.";

/**
 * Make the report of a photo, in whatever state it is.
 * @param {Photo} photo
 * @param {Object} model From the service's list; null while it is not known.
 * @param {?number} error How many points the model is off on average.
 * @param {function(Photo)} again Called to have a photo that failed scored again.
 */
export function report(photo, model, error, again) {
  const viewer = new Viewer(photo);
  const look = element("div", { class: "look" }, viewer.element);
  const heading = element("h2", { tabindex: -1 }, photo.name);
  const page = (tell, show) =>
    element("article", { class: "report" }, heading, element("div", { class: "side-tell" }, tell), element("div", { class: "side-look" }, show));
  if (photo.state !== "done") return page(state(photo, again), look);
  const { answer } = photo;
  if (photo.map) {
    const range = span(photo.map);
    viewer.showMap(photo.map, range);
    look.append(mapControls([viewer], range));
  } else {
    look.append(element("p", { class: "quiet" }, photo.map === null ? noMap(model) : "The quality map is on its way…"));
  }
  look.append(...crops(answer, model, viewer));
  const tell = [answer.decision && decision(answer.decision), verdict(answer, model, error), answer.defects && defects(answer), notes(answer), answer.stage_weights && stages(answer.stage_weights)];
  return page(tell, [look, facts(photo)]);
}

function noMap({ mapless }) {
  return mapless ? PROBLEMS.map_not_supported : "There is no quality map of this photo.";
}

function state(photo, again) {
  if (photo.state === "failed") {
    return element(
      "div",
      { class: "card verdict failed" },
      icon("caution"),
      element("p", {}, element("strong", {}, "This one could not be scored.")),
      element("p", {}, ofProblem(photo.problem)),
      element("button", { type: "button", click: () => again(photo) }, "Try again"),
    );
  }
  return element(
    "div",
    { class: "card verdict working" },
    element("span", { class: "spinner", "aria-hidden": "true" }),
    element("p", {}, photo.delay || (photo.state === "scoring" ? "Looking at it…" : "Waiting for its turn…")),
  );
}

function decision({ outcome, reasons, policy }) {
  const rows = reasons.map((reason) => element("li", {}, capital(reason.message), element("span", { class: "quiet" }, remedy(reason, outcome))));
  return element(
    "section",
    { class: `card decision ${outcome}` },
    element("h3", {}, icon(outcome === "accept" ? "done" : "caution"), OUTCOMES[outcome], element("span", { class: "quiet" }, ` by ${policy}`)),
    rows.length > 0 && element("ul", {}, rows),
  );
}

function verdict(answer, model, error) {
  const { grade, percentile } = answer;
  return element(
    "div",
    { class: "card verdict" },
    dial(answer, model, error),
    element(
      "div",
      { class: "meaning" },
      grade && element("p", { class: "lead" }, GRADES[grade]),
      percentile !== null && element("p", {}, `It scores higher than ${Math.round(percentile)} of 100 photos that the model has learned from.`),
      element("p", { class: "quiet" }, uncertainty(answer, error)),
    ),
  );
}

function defects(answer) {
  const told = found(answer);
  const rows = told.map(({ name, means, severity, close }) => {
    const bar = element("span", { class: "bar", "aria-hidden": "true" }, element("span", {}));
    bar.firstChild.style.width = `${100 * severity}%`;
    const where = close ? " It shows at full size, more than in the whole view." : "";
    return element(
      "li",
      {},
      element("b", {}, name),
      element("span", { class: "share" }, severity >= PLAIN ? "plain to see" : "slight"),
      bar,
      element("span", { class: "quiet" }, `${means}${where}`),
    );
  });
  return element(
    "section",
    { class: "card stages defects" },
    element("h3", {}, told.length ? "What may be wrong" : "Nothing wrong was found"),
    told.length > 0 && element("ol", {}, rows),
  );
}

function notes({ warnings }) {
  const cautions = warnings.filter((code) => code in CAUTIONS);
  const others = warnings.filter((code) => !(code in CAUTIONS));
  const list = (codes) => element("ul", {}, codes.map((code) => element("li", {}, CAUTIONS[code] ?? CONVERSIONS[code] ?? code)));
  return [
    cautions.length > 0 &&
      element("section", { class: "card notes caution" }, element("h3", {}, icon("caution"), "Take this score with care"), list(cautions)),
    others.length > 0 && element("section", { class: "card notes" }, element("h3", {}, "What was done to the picture first"), list(others)),
  ];
}

function stages(weights) {
  const rows = weights.map((weight, place) => {
    const bar = element("span", { class: "bar", "aria-hidden": "true" }, element("span", {}));
    bar.firstChild.style.width = `${100 * weight}%`;
    return element(
      "li",
      {},
      element("b", {}, STAGES[place].name),
      element("span", { class: "share" }, `${Math.round(100 * weight)} %`),
      bar,
      element("span", { class: "quiet" }, STAGES[place].means),
    );
  });
  return element(
    "section",
    { class: "card stages" },
    element("h3", {}, "What the model looked at"),
    element("p", { class: "quiet" }, "How much each depth of the network counted. A long bar tells where it looked, not whether it liked what it saw."),
    element("ol", {}, rows),
  );
}

function crops(answer, model, viewer) {
  const scored = answer.crop_scores;
  if (!scored?.length) return [];
  const whole = model?.contract.view === "whole";
  if (whole && scored.length === 1) return [];
  const names = cropNames(answer);
  const chips = scored.map((crop, place) => {
    const show = () => viewer.showCrop(place);
    const hide = () => viewer.showCrop(null);
    const score = crop.score.toFixed(1);
    const listeners = { pointerenter: show, focus: show, pointerleave: hide, blur: hide, click: show };
    return element("li", {}, element("button", { type: "button", class: "chip", ...listeners }, `${capital(names[place])} `, element("b", {}, score)));
  });
  const told = element("p", { class: "quiet" }, `${whole ? WHOLE : PARTS} Point at one, or step to it, to see it.`);
  return [element("section", { class: "crops" }, element("h3", {}, "Crops"), told, element("ul", {}, chips))];
}

function facts({ answer, file, roundTrip }) {
  const { image, model, timing_ms: timing } = answer;
  return element(
    "section",
    { class: "card facts" },
    element("h3", {}, "Facts"),
    element(
      "dl",
      {},
      fact("Exact score", `${answer.score.toFixed(2)} of 100`),
      fact("Picture", `${image.width} × ${image.height} ${image.format}, ${size(file.size)}`),
      fact("Time", `${duration(roundTrip)} there and back${spent(timing)}`),
      fact("Model", `${model.name}, ${count(answer.crops, "crop")}`),
      fact("SHA-256", element("code", {}, image.sha256)),
    ),
  );
}

function spent({ decode_wait: wait, decode, queue, compute }) {
  if (!compute) return ", from the service's memory";
  return `: ${duration(decode)} decoding, ${duration(wait + queue)} waiting, ${duration(compute)} computing`;
}

function size(bytes) {
  return bytes < 1e6 ? `${Math.max(Math.round(bytes / 1e3), 1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}
