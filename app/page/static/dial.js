/** The dial: a score on its scale, with the bands of the grades and a span of doubt. */

import { css } from "./colours.js";
import { drawing } from "./elements.js";
import { capital } from "./words.js";

const RADIUS = 80;
const SWEEP = 240;
const START = -SWEEP / 2;
const GAP = 1.2;

function point(score, radius) {
  const angle = ((START + (SWEEP * score) / 100) * Math.PI) / 180;
  return [radius * Math.sin(angle), -radius * Math.cos(angle)].map((value) => value.toFixed(2));
}

function arc(from, to, radius, attributes) {
  const large = ((to - from) * SWEEP) / 100 > 180 ? 1 : 0;
  const d = `M${point(from, radius)}A${radius} ${radius} 0 ${large} 1 ${point(to, radius)}`;
  return drawing("path", { d, ...attributes });
}

/**
 * Draw a dial.
 * @param {Object} answer Of the service.
 * @param {Object} model From the service's list of models.
 * @param {?number} error How many points the model is off on average.
 */
export function dial(answer, model, error) {
  const { score, grade } = answer;
  const limits = [0, ...(model.contract.grades ?? []), 100];
  const bands = limits.slice(1).map((limit, place) => {
    const from = limits[place] + (place ? GAP / 2 : 0);
    const to = limit - (limit < 100 ? GAP / 2 : 0);
    const middle = limits.length > 2 ? place / (limits.length - 2) : 0.5;
    const inside = score >= limits[place] && (score < limit || limit === 100);
    return arc(from, Math.max(to, from + 0.1), RADIUS, {
      class: inside ? "band inside" : "band",
      stroke: limits.length > 2 ? css(middle) : "currentColor",
    });
  });
  const { low, high } = answer.interval ?? { low: Math.max(score - (error ?? 0), 0), high: Math.min(score + (error ?? 0), 100) };
  const doubt = answer.interval ? `likely ${Math.round(low)} to ${Math.round(high)}` : error && `typically off by ${Math.round(error)}`;
  const label = [`Score ${Math.round(score)} of 100`, grade, doubt];
  const [x, y] = point(score, RADIUS);
  return drawing(
    "svg",
    { class: "dial", viewBox: "-100 -96 200 158", role: "img", "aria-label": label.filter(Boolean).join(", ") },
    bands,
    doubt ? arc(low, high, RADIUS - 14, { class: "doubt" }) : null,
    drawing("circle", { class: "hand", cx: x, cy: y, r: 7 }),
    drawing("text", { class: "number", y: 18 }, String(Math.round(score))),
    drawing("text", { class: "grade", y: 44 }, grade ? capital(grade) : "of 100"),
    drawing("text", { class: "end", x: -72, y: 60 }, "0"),
    drawing("text", { class: "end", x: 72, y: 60 }, "100"),
  );
}
