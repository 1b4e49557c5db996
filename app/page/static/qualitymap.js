/** The quality map: local scores as colours over a photo, and in words. */

import { quality } from "./colours.js";

/** Colours that run over fewer points would make much of what the model hardly tells apart. */
const LEAST_SPAN = 20;
/** In the middle of the colours the photo shines through most. */
const CLEAREST = 0.3;
/** Fewer points between the best and the worst part are no difference worth a word. */
const EVEN = 3;
const ROWS = ["upper", "middle", "lower"];
const COLUMNS = ["left", "centre", "right"];

/**
 * From which score to which the colours run: so far as the maps do, but never so near that nothing looks like much.
 * @param {...Object} maps
 * @returns {number[]} Lowest and highest.
 */
export function span(...maps) {
  const scores = maps.flatMap((map) => map.scores.flat());
  const low = scores.reduce((least, score) => Math.min(least, score), 100);
  const high = scores.reduce((most, score) => Math.max(most, score), 0);
  const missing = Math.max(LEAST_SPAN - (high - low), 0) / 2;
  const from = Math.min(Math.max(low - missing, 0), 100 - LEAST_SPAN);
  return [from, Math.min(Math.max(high + missing, from + LEAST_SPAN), 100)];
}

/**
 * Paint a map on a canvas of any size.
 *
 * It is enlarged by a factor of two at a time: each step softens what the ones before have left of the cells.
 */
export function paint(canvas, map, [low, high]) {
  const cells = new ImageData(map.columns, map.rows);
  map.scores.flat().forEach((score, cell) => {
    const place = (score - low) / (high - low);
    const opacity = CLEAREST + (1 - CLEAREST) * Math.min(Math.abs(2 * place - 1), 1);
    cells.data.set([...quality(place), 255 * opacity], 4 * cell);
  });
  let drawn = new OffscreenCanvas(map.columns, map.rows);
  drawn.getContext("2d").putImageData(cells, 0, 0);
  while (drawn.width * 2 < canvas.width) {
    const larger = new OffscreenCanvas(drawn.width * 2, drawn.height * 2);
    enlarge(larger, drawn);
    drawn = larger;
  }
  enlarge(canvas, drawn);
}

function enlarge(canvas, drawn) {
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = "high";
  context.drawImage(drawn, 0, 0, canvas.width, canvas.height);
}

/** The local score at a place; x and y from 0 to 1. */
export function at(map, x, y) {
  const row = Math.min(Math.floor(y * map.rows), map.rows - 1);
  return map.scores[row][Math.min(Math.floor(x * map.columns), map.columns - 1)];
}

/** Where the picture is weakest and strongest, in words. */
export function describe(map) {
  const parts = ROWS.flatMap((vertical, row) =>
    COLUMNS.map((horizontal, column) => ({ where: where(vertical, horizontal), score: mean(map, row, column) })),
  );
  parts.sort((one, other) => one.score - other.score);
  const [weakest, strongest] = [parts.at(0), parts.at(-1)];
  const numbers = [weakest, strongest].map(({ score }) => Math.round(score));
  if (strongest.score - weakest.score < EVEN) {
    const range = numbers[0] === numbers[1] ? `about ${numbers[0]}` : `${numbers[0]} to ${numbers[1]}`;
    return `Much the same quality everywhere: ${range}.`;
  }
  return `Weakest ${weakest.where} (${numbers[0]}), strongest ${strongest.where} (${numbers[1]}).`;
}

function where(vertical, horizontal) {
  if (vertical === "middle") return horizontal === "centre" ? "in the middle" : `on the ${horizontal}`;
  return horizontal === "centre" ? `at the ${vertical === "upper" ? "top" : "bottom"}` : `at the ${vertical} ${horizontal}`;
}

function mean(map, third, thirdAcross) {
  const rows = map.scores.slice(...thirds(map.rows, third));
  const scores = rows.flatMap((row) => row.slice(...thirds(map.columns, thirdAcross)));
  return scores.reduce((sum, score) => sum + score, 0) / scores.length;
}

function thirds(cells, third) {
  const from = Math.floor((cells * third) / 3);
  return [from, Math.max(Math.floor((cells * (third + 1)) / 3), from + 1)];
}
