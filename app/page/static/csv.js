/** A table of results as a file. */

import { DEFECTS } from "./words.js";

const COLUMNS = {
  file: (photo) => photo.name,
  score: (photo) => photo.answer?.score,
  low: (photo) => photo.answer?.interval?.low,
  high: (photo) => photo.answer?.interval?.high,
  grade: (photo) => photo.answer?.grade,
  percentile: (photo) => photo.answer?.percentile,
  ...Object.fromEntries(Object.keys(DEFECTS).map((name) => [name, (photo) => photo.answer?.defects?.[name]?.severity])),
  raw_score: (photo) => photo.answer?.raw_score,
  std: (photo) => photo.answer?.std,
  stderr: (photo) => photo.answer?.stderr,
  crops: (photo) => photo.answer?.crops,
  width: (photo) => photo.answer?.image.width,
  height: (photo) => photo.answer?.image.height,
  format: (photo) => photo.answer?.image.format,
  warnings: (photo) => photo.answer?.warnings.join(" "),
  decision: (photo) => photo.answer?.decision?.outcome,
  reasons: (photo) => photo.answer?.decision?.reasons.map(({ code }) => code).join(" "),
  picked: (photo) => photo.picked,
  policy: (photo) => photo.answer?.decision && `${photo.answer.decision.policy} ${photo.answer.decision.version}`,
  sha256: (photo) => photo.answer?.image.sha256,
  model: (photo) => photo.answer?.model.name,
  digest: (photo) => photo.answer?.model.digest,
  error: (photo) => photo.problem?.code,
};

/** The table as text, one row for each photo, for spreadsheets and for programs. */
export function table(photos) {
  const rows = photos.map((photo) => Object.values(COLUMNS).map((value) => cell(value(photo))));
  // The mark tells spreadsheets that this is UTF-8.
  return "\ufeff" + [Object.keys(COLUMNS), ...rows].map((row) => row.join(",") + "\r\n").join("");
}

function cell(value) {
  if (value === null || value === undefined) return "";
  let text = String(value);
  // A spreadsheet would take a name that begins so for a formula, and compute it.
  if (typeof value !== "number" && /^[=+\-@\t\r\n＝＋－＠]/.test(text)) text = `'${text}`;
  return /[",\r\n']/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Hand a text over as a download. */
export function download(text, name) {
  const url = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
