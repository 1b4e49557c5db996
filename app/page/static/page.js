/** The page: photos come in, are scored a few at a time, and are shown. */

import { comparison } from "./comparison.js";
import { download, table } from "./csv.js";
import { element } from "./elements.js";
import { List } from "./list.js";
import { Photo } from "./photo.js";
import { picks } from "./picks.js";
import { Queue } from "./queue.js";
import { report } from "./report.js";
import { Problem, Service } from "./service.js";
import { count, ofProblem, preference } from "./words.js";

/** Photos on their way at a time. */
const AT_ONCE = 3;
/** More photos than this step back behind those of others, and get their maps only when they are looked at. */
const A_FEW = 3;
/** Photos that the service picks from at a time. */
const PICKED_FROM = 32;

/** Problems that a request without a map may not have. */
const WITHOUT_MAP = new Set(["map_not_supported", "engine_failed", "internal_error", "deadline_exceeded"]);

const byId = (id) => document.getElementById(id);
const list = new List(byId("photos"), open, ticked);
const queue = new Queue(AT_ONCE);
const service = new Service({ keyNeeded, keyTaken });
let leaving = new AbortController();
let models = [];
let shown = null;
let pasted = 0;

const known = service
  .models((problem, seconds) => announce(`${ofProblem(problem)} Trying again in ${seconds} s.`))
  .then((found) => {
    models = found;
    announce("");
    const select = byId("model");
    select.append(...found.map(({ name }) => element("option", { value: name }, name)));
    byId("models").hidden = found.length < 2;
    service.policies().then(offerPolicies, () => {});
  });

function offerPolicies(policies) {
  byId("policy").append(...policies.map(({ name, about }) => element("option", { value: name, title: about }, name)));
  byId("policies").hidden = !policies.length;
}

/** The model that is asked now. */
function model() {
  return models.find(({ name }) => name === byId("model").value) ?? models[0];
}

function modelOf(photo) {
  return models.find(({ name }) => name === photo.answer?.model.name) ?? model();
}

/** How many points a model is off on average, as far as that was measured. */
function errorOf({ figures }) {
  return Object.values(figures).find((part) => part.error_points)?.error_points ?? null;
}

// Photos come in.

function take(files, name) {
  const photos = [...files].map((file) => new Photo(file, name));
  if (!photos.length) return;
  document.body.classList.add("busy");
  photos.forEach((photo) => list.add(photo));
  show(photos[0]);
  photos.forEach((photo) => score(photo, photos.length > A_FEW));
}

function score(photo, bulk = false) {
  const { signal } = leaving;
  queue.add(() => scored(photo, bulk, signal).catch((error) => signal.aborted || Promise.reject(error)));
  changed(photo);
}

async function scored(photo, bulk, signal) {
  photo.state = "scoring";
  if (!models.length) photo.delay = "Waiting for the service…";
  changed(photo);
  const small = photo.shrink().then(() => signal.aborted || list.update(photo));
  try {
    if (!photo.isPicture) throw new Problem({ code: "unsupported_format" });
    await known;
    photo.delay = "";
    Object.assign(photo, await answerFor(photo, bulk, signal), { state: "done" });
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    Object.assign(photo, { problem, state: "failed" });
  }
  signal.throwIfAborted();
  photo.delay = "";
  changed(photo);
  await small;
}

/** The score, with the map where it is wanted and there is one. */
async function answerFor(photo, bulk, signal) {
  const began = performance.now();
  const took = () => ({ roundTrip: performance.now() - began });
  if (!bulk && !model().mapless) {
    try {
      const answer = await ask(photo, "map", false, signal);
      return { answer, map: answer.map, ...took() };
    } catch (problem) {
      // A score is worth having without its map, too.
      if (!WITHOUT_MAP.has(problem.code)) throw problem;
    }
  }
  const answer = await ask(photo, "crops", bulk, signal);
  return { answer, map: bulk && !model().mapless ? undefined : null, ...took() };
}

async function ask(photo, detail, bulk, signal) {
  const asked = model();
  const onWait = (problem, seconds) => {
    photo.delay = `${ofProblem(problem)} Trying again in ${Math.ceil(seconds)} s.`;
    changed(photo);
  };
  const wish = { model: asked.name, attention: asked.stage_attention, detail, bulk, policy: byId("policy").value };
  try {
    return await service.score(photo.file, wish, { signal, onWait });
  } catch (problem) {
    if (problem.code === "map_not_supported") asked.mapless = true;
    throw problem;
  }
}

/** Get the map of a photo that was scored without one; once, however often it is asked for. */
function chart(photo) {
  const { signal } = leaving;
  photo.charting ??= ask(photo, "map", false, signal).then(
    ({ map }) => (photo.map = map),
    () => (photo.map = null),
  );
  return photo.charting;
}

// They are shown.

function changed(photo) {
  list.update(photo);
  progress();
  if (photo === shown) show(photo);
}

function show(photo) {
  list.photos.filter((other) => other !== photo).forEach((other) => other.release());
  shown = photo;
  list.current = photo;
  if (photo.state === "done" && photo.map === undefined) chart(photo).then(() => photo === shown && changed(photo));
  render(photo);
}

function render(photo) {
  const found = models.length ? modelOf(photo) : null;
  const place = byId("result");
  const focused = place.contains(document.activeElement);
  place.replaceChildren(report(photo, found, found && errorOf(found), again));
  if (focused) place.querySelector("h2").focus({ preventScroll: true });
}

function again(photo) {
  photo.reset();
  score(photo);
}

/** Show a photo because somebody wants to see it: go there. */
function open(photo) {
  show(photo);
  goTo(byId("result").querySelector("h2"));
}

function goTo(heading) {
  heading.focus({ preventScroll: true });
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  heading.scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "nearest" });
}

function ticked() {
  const enough = list.pair.length === 2;
  byId("compare").disabled = !enough;
  byId("hint").hidden = enough;
  const waiting = list.photos.some(({ state }) => state === "waiting" || state === "scoring");
  byId("pick").hidden = !model()?.picks;
  byId("pick").disabled = waiting || list.scored.length < 2;
}

/** Show something of several photos in the place of one. */
function showInstead(page) {
  shown?.release();
  shown = null;
  list.current = null;
  byId("result").replaceChildren(page);
  goTo(page.querySelector("h2"));
}

async function pick() {
  const photos = list.scored;
  if (photos.length > PICKED_FROM) {
    announce(`The best is picked from ${PICKED_FROM} photos at most here; smart-iqa pick takes any number.`);
    return;
  }
  const { signal } = leaving;
  const onWait = (problem, seconds) => announce(`${ofProblem(problem)} Trying again in ${Math.ceil(seconds)} s.`);
  byId("pick").disabled = true;
  announce(`Looking for the best of ${count(photos.length, "photo")}…`);
  try {
    const found = await service.pick(photos.map(({ file }) => file), modelOf(photos[0]).name, { signal, onWait });
    announce("");
    showInstead(picks(found, photos, () => open(photos[0])));
  } catch (problem) {
    if (signal.aborted) return;
    if (!(problem instanceof Problem)) throw problem;
    announce(ofProblem(problem));
  } finally {
    ticked();
  }
}

async function compare() {
  const pair = list.pair;
  const { signal } = leaving;
  await Promise.all(pair.map((photo) => photo.map === undefined && chart(photo)));
  if (signal.aborted || pair.some(({ state }) => state !== "done")) return;
  const found = modelOf(pair[0]);
  const close = () => open(pair[0]);
  const page = comparison(pair, found, errorOf(found), close);
  showInstead(page);
  if (!found.contract.interval) return;
  // The service knows how sure it is; until it has answered, or if it does not, the scores speak for themselves.
  const compared = await service.compare(pair.map(({ file }) => file), found.name, signal).catch(() => null);
  if (compared?.pairs.length) page.querySelector(".lead").textContent = preference(...pair.map(({ name }) => name), compared.pairs[0]);
}

function progress() {
  const photos = list.photos;
  const failed = photos.filter(({ state }) => state === "failed").length;
  const done = photos.filter(({ state }) => state === "done").length + failed;
  byId("list").hidden = photos.length < 2;
  byId("heading").textContent = count(photos.length, "photo");
  byId("csv").disabled = !done;
  byId("progress").hidden = done === photos.length;
  byId("progress").max = photos.length;
  byId("progress").value = done;
  byId("count").textContent = done < photos.length ? `${done} of ${photos.length} done` : "";
  ticked();
  if (!photos.length || done < photos.length) return;
  const [only] = photos;
  if (photos.length > 1) announce(`${count(done - failed, "photo")} scored${failed ? `, ${failed} could not be` : ""}.`);
  else if (failed) announce(`${only.name}: ${ofProblem(only.problem)}`, true);
  else announce(`${only.name}: ${Math.round(only.answer.score)} of 100${only.answer.grade ? `, ${only.answer.grade}` : ""}.`, true);
}

/** Tell something: to ears only where eyes see it anyway. */
function announce(words, seen = false) {
  const status = byId("status");
  status.classList.toggle("hidden", seen || !words);
  if (status.textContent !== words) status.textContent = words;
}

function clear() {
  leaving.abort();
  leaving = new AbortController();
  queue.clear();
  shown?.release();
  shown = null;
  list.clear();
  progress();
  byId("result").replaceChildren();
  document.body.classList.remove("busy");
  announce("All photos were removed from this page.");
  byId("choose").focus();
}

function scoreAllAgain() {
  leaving.abort();
  leaving = new AbortController();
  queue.clear();
  const photos = list.photos;
  photos.forEach((photo) => photo.reset());
  photos.forEach((photo) => score(photo, photos.length > A_FEW));
}

// Keys.

function keyNeeded(code) {
  byId("key").hidden = false;
  byId("keyproblem").textContent = ofProblem({ code });
  byId("forget").hidden = true;
  if (document.activeElement === document.body) byId("keyfield").focus();
}

function keyTaken() {
  byId("key").hidden = true;
  byId("forget").hidden = false;
}

byId("key").addEventListener("submit", (event) => {
  event.preventDefault();
  byId("key").hidden = true;
  service.useKey(byId("keyfield").value.trim());
  byId("keyfield").value = "";
  byId("choose").focus();
});
byId("forget").addEventListener("click", () => {
  service.useKey("");
  byId("forget").hidden = true;
  announce("The key was forgotten.");
});

// Hands, mice, keyboards.

for (const [button, field] of [
  ["choose", "files"],
  ["shoot", "camera"],
]) {
  byId(button).addEventListener("click", () => byId(field).click());
  byId(field).addEventListener("change", () => {
    take(byId(field).files);
    byId(field).value = "";
  });
}
byId("csv").addEventListener("click", () => download(table(list.photos), "scores.csv"));
byId("compare").addEventListener("click", compare);
byId("pick").addEventListener("click", pick);
byId("clear").addEventListener("click", clear);
byId("model").addEventListener("change", scoreAllAgain);
byId("policy").addEventListener("change", scoreAllAgain);

document.addEventListener("paste", ({ clipboardData }) => {
  for (const file of clipboardData.files) {
    pasted += 1;
    take([file], file.name === "image.png" ? `pasted ${pasted}.png` : file.name);
  }
});
document.addEventListener("dragover", (event) => {
  if (!event.dataTransfer.types.includes("Files")) return;
  event.preventDefault();
  document.body.classList.add("dragging");
});
document.addEventListener("dragleave", ({ relatedTarget }) => {
  if (!relatedTarget) document.body.classList.remove("dragging");
});
document.addEventListener("drop", (event) => {
  document.body.classList.remove("dragging");
  if (!event.dataTransfer.files.length) return;
  event.preventDefault();
  take(event.dataTransfer.files);
});

performance.mark("usable");
