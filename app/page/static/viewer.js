/** A photo with its quality map and its crops drawn over it. */

import { css } from "./colours.js";
import { drawing, element, icon } from "./elements.js";
import { at, describe, paint } from "./qualitymap.js";
import { cropNames } from "./words.js";

const MAP_SIDE = 1024;
/** Small pictures are shown at most so many times as large as they are. */
const ENLARGED = 2;

export class Viewer {
  #answer;
  #map = null;
  #canvas = element("canvas", { class: "map", "aria-hidden": "true" });
  #boxes = drawing("svg", { class: "boxes", preserveAspectRatio: "none", "aria-hidden": "true" });
  #readout = element("span", { class: "readout", "aria-hidden": "true", hidden: true });
  #caption = element("figcaption", {});

  /** @param {Photo} photo */
  constructor(photo) {
    this.#answer = photo.answer;
    const image = element("img", { alt: `The photo ${photo.name}`, src: photo.url, decoding: "async" });
    const frame = element("div", { class: "frame" }, image, this.#canvas, this.#boxes, this.#readout);
    image.addEventListener("error", () => {
      image.replaceWith(element("p", { class: "unshown" }, icon("picture"), "This browser cannot show the picture."));
    });
    this.element = element("figure", { class: "viewer" }, frame, this.#caption);
    if (!this.#answer) {
      image.addEventListener("load", () => fit(frame, image.naturalWidth, image.naturalHeight));
      return;
    }
    const { width, height } = this.#answer.image;
    fit(frame, width, height);
    this.#boxes.setAttribute("viewBox", `0 0 ${width} ${height}`);
    frame.addEventListener("pointermove", (event) => this.#point(event, frame));
    frame.addEventListener("pointerleave", () => this.showCrop(null));
  }

  /** Lay a map over the photo: colours from one score to another. */
  showMap(map, span) {
    this.#map = map;
    const scale = MAP_SIDE / Math.max(this.#answer.image.width, this.#answer.image.height);
    this.#canvas.width = Math.max(Math.round(this.#answer.image.width * scale), 1);
    this.#canvas.height = Math.max(Math.round(this.#answer.image.height * scale), 1);
    paint(this.#canvas, map, span);
    this.#caption.textContent = describe(map);
  }

  /** @param {number} opacity Of the map, from 0 to 1. */
  set strength(opacity) {
    this.#canvas.style.opacity = opacity;
  }

  /** Show where a crop lies and what it scores; null shows none. */
  showCrop(place, { alone = true, here = "" } = {}) {
    const crop = this.#answer.crop_scores?.[place];
    this.#boxes.replaceChildren(...(crop ? this.#box(crop.box, alone) : []));
    const words = [here, crop && `${cropNames(this.#answer)[place]}: ${crop.score.toFixed(1)}`].filter(Boolean).join(" · ");
    this.#readout.hidden = !words;
    this.#readout.textContent = words;
  }

  #box([left, top, right, bottom], alone) {
    const { width, height } = this.#answer.image;
    const inside = `M${left} ${top}H${right}V${bottom}H${left}Z`;
    return [
      alone && drawing("path", { class: "outside", d: `M0 0H${width}V${height}H0Z${inside}` }),
      drawing("path", { class: "edge dark", d: inside }),
      drawing("path", { class: "edge", d: inside }),
    ].filter(Boolean);
  }

  #point(event, frame) {
    const bounds = frame.getBoundingClientRect();
    const x = (event.clientX - bounds.left) / bounds.width;
    const y = (event.clientY - bounds.top) / bounds.height;
    if (x < 0 || x >= 1 || y < 0 || y >= 1) return;
    const here = this.#map ? `here: ${at(this.#map, x, y).toFixed(0)}` : "";
    this.showCrop(this.#nearest(x, y), { alone: false, here });
  }

  /** The crop whose middle is nearest. */
  #nearest(x, y) {
    const { width, height } = this.#answer.image;
    const away = (this.#answer.crop_scores ?? []).map(({ box: [left, top, right, bottom] }) =>
      Math.hypot((left + right) / 2 - x * width, (top + bottom) / 2 - y * height),
    );
    return away.indexOf(Math.min(...away));
  }
}

function fit(frame, width, height) {
  frame.style.setProperty("--aspect", width / height);
  frame.style.maxWidth = `${ENLARGED * width}px`;
}

let strength = 50;

/**
 * The slider that lays the map over one photo or over two, with the meaning of its colours.
 * @param {Viewer[]} viewers
 * @param {number[]} span Scores at the ends of the colours.
 */
export function mapControls(viewers, [low, high]) {
  const apply = () => {
    for (const viewer of viewers) viewer.strength = strength / 100;
  };
  apply();
  const slider = element("input", {
    type: "range",
    id: "strength",
    min: 0,
    max: 100,
    step: 5,
    value: strength,
    "aria-describedby": "legend",
    input: () => {
      strength = Number(slider.value);
      apply();
    },
  });
  const stops = [0, 0.25, 0.5, 0.75, 1].map((place) => drawing("stop", { offset: place, "stop-color": css(place) }));
  return element(
    "div",
    { class: "mapcontrols" },
    element("label", { for: "strength" }, "Quality map"),
    element("span", { class: "slider" }, element("span", { "aria-hidden": "true" }, "photo"), slider, element("span", { "aria-hidden": "true" }, "map")),
    element(
      "p",
      { class: "legend", id: "legend" },
      element("span", {}, "weaker ", element("b", {}, low.toFixed(0))),
      drawing(
        "svg",
        { "aria-hidden": "true" },
        drawing("linearGradient", { id: "ramp" }, stops),
        drawing("rect", { width: "100%", height: "100%", fill: "url(#ramp)" }),
      ),
      element("span", {}, element("b", {}, high.toFixed(0)), " stronger"),
    ),
  );
}
