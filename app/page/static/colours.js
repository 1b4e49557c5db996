/** Colours of quality: vermilion for bad, sand in the middle, blue for good; told apart by colour-blind eyes too. */

import { GRADES } from "./words.js";

const RAMP = [
  [176, 42, 16],
  [226, 118, 38],
  [236, 206, 130],
  [86, 160, 190],
  [16, 92, 160],
];

/**
 * A colour of the ramp.
 * @param {number} place From 0 (worst) to 1 (best).
 * @returns {number[]} Red, green, blue.
 */
export function quality(place) {
  const position = Math.min(Math.max(place, 0), 1) * (RAMP.length - 1);
  const below = Math.min(Math.floor(position), RAMP.length - 2);
  return RAMP[below].map((value, channel) => value + (RAMP[below + 1][channel] - value) * (position - below));
}

/** The same for CSS and SVG. */
export function css(place) {
  return `rgb(${quality(place).map(Math.round).join(" ")})`;
}

/** The colour of a grade. */
export function ofGrade(grade) {
  return grade ? css(Object.keys(GRADES).indexOf(grade) / 4) : "currentColor";
}
