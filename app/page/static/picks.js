/** The best of each group of nearly equal photos, side by side; whoever looks may choose another one. */

import { element } from "./elements.js";
import { KINDS, becauseOf, capital, count, ofProblem, worseIn } from "./words.js";

/**
 * Make the groups.
 * @param {Object} found What the service says of the photos: `groups`, whose members name them by their places.
 * @param {Photo[]} photos The photos that were sent.
 * @param {function()} close Called to leave it.
 */
export function picks(found, photos, close) {
  for (const photo of photos) photo.picked = true;
  const failed = found.results.filter(({ problem }) => problem);
  for (const { index } of failed) photos[index].picked = null;
  const several = found.groups.filter(({ members }) => members.length > 1);
  const alone = found.groups.length - several.length;
  return element(
    "article",
    { class: "picks" },
    element(
      "div",
      { class: "head" },
      element("h2", { tabindex: -1 }, "The best of each"),
      element("button", { type: "button", click: close }, "Close"),
    ),
    element(
      "p",
      { class: "lead" },
      several.length
        ? `${capital(count(several.length, "group"))} of several photos, ${count(alone, "single photo")}. Choose another one where you like it better; the CSV tells which ones are picked.`
        : "No two photos are nearly equal.",
    ),
    failed.map(({ index, problem }) => element("p", { class: "quiet" }, `${photos[index].name}: ${ofProblem(problem)}`)),
    several.map((group, place) => (group.winner === null ? sequence(group, photos) : choice(group, photos, place))),
  );
}

/** A sequence, which is kept whole. */
function sequence({ kind, members }, photos) {
  return element(
    "section",
    { class: "card group" },
    element("h3", {}, `${count(members.length, "photo")}: ${KINDS[kind] ?? kind}, kept whole`),
    element("div", { class: "shots" }, members.map(({ index }) => element("figure", { class: "shot" }, ...shown(photos[index], "")))),
  );
}

/** Nearly equal photos, of which one is picked: by the arrow keys, a tap or a click. */
function choice({ winner, reasons, members }, photos, place) {
  const pick = (chosen) => members.forEach(({ index }) => (photos[index].picked = index === chosen));
  pick(winner);
  const shots = members.map((member) => {
    const radio = element("input", {
      type: "radio",
      name: `group ${place}`,
      checked: member.index === winner,
      change: () => pick(member.index),
    });
    const told = member.same_file_as === null ? worseIn(member, photos[winner].name) : "The same file.";
    return element("label", { class: "shot" }, radio, ...shown(photos[member.index], member.index === winner ? becauseOf(reasons) : told));
  });
  return element(
    "fieldset",
    { class: "card group" },
    element("legend", {}, `${members.length} nearly equal photos`),
    element("div", { class: "shots" }, shots),
  );
}

function shown(photo, told) {
  return [
    element("img", { src: photo.url, alt: "", loading: "lazy" }),
    element("span", { class: "name" }, photo.name),
    element("span", { class: "quiet" }, `${photo.answer.score.toFixed(1)} of 100. ${told}`),
  ];
}
