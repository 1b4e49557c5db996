/** Elements made by hand: text is only ever text, so that no file's name becomes markup. */

const SVG = "http://www.w3.org/2000/svg";

function fill(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

/**
 * Make an HTML element.
 * @param {string} tag
 * @param {Object} attributes Functions become listeners of that event; false and null are left out.
 * @param {...(Node|string|null|Array)} children
 */
export function element(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** Make an SVG element; arguments as for `element`. */
export function drawing(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

const ICONS = {
  caution: "M12 3 1.8 20.5h20.4L12 3Zm0 6.5v5m0 3v.2",
  done: "M20 6 9.5 17 4 11.5",
  picture: "M3 5h18v14H3zM3 16l5-5 4 4 3-3 6 5",
};

/** An icon, for eyes only: beside it stand words. */
export function icon(name) {
  const path = drawing("path", { d: ICONS[name] });
  return drawing("svg", { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true" }, path);
}

/** A row of a description list. */
export function fact(term, ...description) {
  return element("div", {}, element("dt", {}, term), element("dd", {}, ...description));
}
