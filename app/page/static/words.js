/** Everything that is told in words: grades, stages, warnings, problems. */

export const FORMATS = "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, HEIC, JPEG 2000 or JPEG XL";

export const GRADES = {
  bad: "People would see its flaws at once.",
  poor: "People would notice flaws.",
  fair: "An ordinary photo: few would praise it, few would fault it.",
  good: "A good photo, more pleasing than most.",
  excellent: "Among the best: there is hardly anything to fault.",
};

export const STAGES = [
  { name: "Fine detail", means: "Edges, grain and noise, from one pixel to the next." },
  { name: "Texture", means: "Patterns and sharpness over a few pixels." },
  { name: "Shapes", means: "Parts of things, and how light and blur lie on them." },
  { name: "Content", means: "What the picture shows as a whole." },
];

/** Defects: what to call them, and what people see. */
export const DEFECTS = {
  defocus: { name: "Out of focus", means: "Nothing in it is quite sharp: the focus was missed." },
  motion_blur: { name: "Motion blur", means: "Smeared in one direction, by a shaking hand or a moving subject." },
  noise: { name: "Noise", means: "Grain or coloured specks, as of little light." },
  compression: { name: "Compression", means: "Blocks and ringing, as of a file that was made too small." },
  upscaled: { name: "Enlarged", means: "Less detail than pixels: it was enlarged, or shrunk and enlarged again." },
  underexposed: { name: "Underexposed", means: "Too dark: what lies in the shadows is lost." },
  overexposed: { name: "Overexposed", means: "Too bright: what lies in the lights is lost." },
  low_contrast: { name: "Low contrast", means: "A veil lies over it, as of haze or flare." },
  colour_cast: { name: "Colour cast", means: "Its colours lean one way, as of a wrong white balance." },
  saturation: { name: "Saturation", means: "Colours that are too strong, or too pale." },
};
/** Severities from which a defect is told at all, and from which it is plain to see. */
export const SLIGHT = 0.25;
export const PLAIN = 0.5;

/** Defects of an answer that are worth telling, the most severe first. */
export function found({ defects }) {
  return Object.entries(defects ?? {})
    .filter(([, { severity }]) => severity >= SLIGHT)
    .sort(([, one], [, other]) => other.severity - one.severity)
    .map(([name, defect]) => ({ ...defect, ...(DEFECTS[name] ?? { name: capital(name.replaceAll("_", " ")), means: "" }) }));
}

/** What the crops of an answer are called: one that covers the picture is the whole, others are counted. */
export function cropNames({ crop_scores: scored, image }) {
  let count = 0;
  return scored.map(({ box: [left, top, right, bottom] }) => {
    if (left <= 0 && top <= 0 && right >= image.width && bottom >= image.height) return "whole";
    count += 1;
    return `crop ${count}`;
  });
}

/** Where people's mean opinion lies, in a few characters; "" if the answer does not say. */
export function likely({ interval, stderr }) {
  if (interval) return `${Math.round(interval.low)} to ${Math.round(interval.high)}`;
  return stderr === null ? "" : `±${stderr.toFixed(1)}`;
}

/** What a policy decides. */
export const OUTCOMES = { accept: "Accepted", review: "For a person to look at", reject: "Rejected" };

/** What of a photo would have to change for a reason of a decision to go. */
export function remedy({ field, operator, value, threshold }, outcome) {
  if (outcome === "accept") return "";
  const wanted = { ">=": "below", ">": "at most", "<": "at least", "<=": "above" }[operator];
  return wanted && typeof value === "number" ? `${capital(field.replaceAll(/[._]/g, " "))} is ${value}; it should be ${wanted} ${threshold}.` : "";
}

/** Warnings that make a score less sure. */
export const CAUTIONS = {
  damaged_data_ignored: "The file is damaged, but not where its pixels are. What it says of itself may be lost, such as which side is up.",
  out_of_domain:
    "This is unlike the photos that the model has learned from. It may be a screenshot, a drawing, noise or almost " +
    "one colour. Do not rely on the score.",
  upscaled_low_resolution: "The picture is so small that it had to be enlarged. What a larger copy shows cannot be told.",
  extreme_aspect: "The picture is very long for its width, which makes its score less sure.",
};

/** Warnings that tell what was done on the way to the score. */
export const CONVERSIONS = {
  "16bit_scaled": "16 bits per colour were brought to 8.",
  alpha_composited: "Transparent parts were laid on white.",
  animated_first_frame: "Only the first frame of the animation was scored.",
  cmyk_converted: "Colours for print (CMYK) were converted to colours for screens.",
  color_converted: "Its colours, which are not those of usual screens, were converted to sRGB.",
  exif_rotated: "The picture was turned upright, as the camera had noted.",
  grayscale: "A picture in shades of grey; it was scored as a colour photo without colours.",
  hdr_converted: "A picture of high dynamic range; it was brought to that of usual screens.",
  icc_converted: "Its colour profile was converted to sRGB, the usual one of screens.",
  icc_invalid_ignored: "Its colour profile is broken and was ignored. Colours may be a little off.",
  palette_expanded: "A picture with a palette of few colours; it was converted to full colour.",
};

/** What went wrong and what to do about it, by the service's codes. */
export const PROBLEMS = {
  attention_not_supported: "The model cannot tell how it weighed its stages.",
  body_too_large: "The file is larger than this service takes. A smaller copy would do.",
  comparison_not_supported: "The model cannot tell how sure a comparison is.",
  picking_not_supported: "The model or the service cannot tell which pictures are alike.",
  deadline_exceeded: "The service did not answer in time. It has a lot to do; try again later.",
  device_lost: "The service has lost its processor and must be restarted by whoever runs it.",
  draining: "The service is about to stop and takes no new pictures.",
  empty_body: "The file is empty.",
  engine_failed: "The model failed on this picture. Other pictures are not affected.",
  extreme_aspect: "The picture is too long for its width to be scored.",
  head_too_large: "The request was too long. Is the key right?",
  head_too_slow: "The connection is too slow, or was interrupted. Try again.",
  image_quarantined: "The model has failed on this picture before, so it is left alone for a while.",
  image_too_costly: "The file is built so that it takes too long to open. Saved again with common settings it would do.",
  image_too_small: "The picture is too small to be scored.",
  image_truncated: "The file is cut off: its end is missing. Was it fully copied or downloaded?",
  image_undecodable: "The file is damaged, or of a rare kind that cannot be read.",
  internal_error: "Something went wrong in the service. That is its fault, not the picture's.",
  invalid_key: "This key is not known to the service.",
  invalid_parameter: "The page asked for something that this service does not have. Reload the page.",
  malformed_request: "The request arrived damaged. Try again.",
  malformed_upload: "The picture arrived damaged. Try again.",
  map_not_supported: "The model sees whole pictures only: it has no quality map.",
  missing_file: "No picture arrived. Try again.",
  missing_key: "This service asks for a key.",
  policy_not_supported: "The policy asks for more than this model tells. Choose another one.",
  not_ready: "The service is still loading its model.",
  queue_full: "The service is busy.",
  rate_limited: "This key has used up its rate for now.",
  too_many_connections: "The service is talking to too many others.",
  too_few_files: "There were too few pictures to compare.",
  too_many_files: "There were too many pictures at once.",
  too_many_pixels: "The picture has too many pixels. A smaller copy would do.",
  unknown_model: "The model is no longer there. Choose another one.",
  unknown_policy: "The policy is no longer there. Choose another one.",
  unsupported_format: `This is not a picture that can be read here. ${FORMATS} is taken.`,
  unsupported_media_type: `This is not a picture that can be read here. ${FORMATS} is taken.`,
  upload_too_slow: "The upload took too long. A smaller copy would do.",
  // The page's own.
  unreachable: "The service cannot be reached. Is it running, and are you online?",
  unreadable: "The browser cannot read this file. Was it moved or deleted, or is it a folder?",
};

/** Problems of which the service says more than their code: which kind of file it is, and what to do. */
const TOLD = new Set(["image_undecodable", "unsupported_format"]);

/** What to tell of a problem, also of one that this page has never heard of. */
export function ofProblem({ code, title, detail }) {
  if (TOLD.has(code) && detail) return `${capital(detail)}.`;
  return PROBLEMS[code] ?? `${title || "Something unexpected went wrong"} (${code}).`;
}

/** "3 photos", "1 photo". */
export function count(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

/** "bad" to "Bad". */
export function capital(word) {
  return word.charAt(0).toUpperCase() + word.slice(1);
}

/** "12 ms", "1.4 s". */
export function duration(milliseconds) {
  if (milliseconds < 1) return "under 1 ms";
  return milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
}

/**
 * How sure a score is.
 * @param {Object} answer Of the service.
 * @param {?number} error How many points this model is off on average.
 */
export function uncertainty(answer, error) {
  const parts = [];
  if (answer.interval) {
    const { low, high, coverage } = answer.interval;
    parts.push(`For ${Math.round(100 * coverage)} of 100 such photos people's mean opinion lies between ${Math.round(low)} and ${Math.round(high)}.`);
  } else if (error) {
    parts.push(`People's own opinion is typically about ${Math.round(error)} points from such a score.`);
  }
  if (answer.stderr !== null) {
    parts.push(`The ${answer.crops} crops that it is the mean of agree to ±${answer.stderr.toFixed(1)}.`);
  }
  return parts.join(" ");
}

/**
 * Which of two photos people prefer.
 * @param {string} left  Name of the first one.
 * @param {string} right Name of the second one.
 * @param {Object} pair What the service says of the two: `preferred`, `duplicate`, `because`.
 */
export function preference(left, right, { preferred, duplicate, because }) {
  if (duplicate) return "Both are the same file.";
  const percent = Math.min(Math.round(100 * Math.max(preferred, 1 - preferred)), 99);
  const better = preferred >= 0.5 ? left : right;
  const told =
    percent < 55 ? "People may prefer either of them." : `People probably prefer ${better}: the probability is ${percent} %.`;
  const differences = because.map(({ defect }) => (DEFECTS[defect]?.name ?? capital(defect.replaceAll("_", " "))).toLowerCase());
  return differences.length ? `${told} They differ in this: ${differences.join(", ")}.` : told;
}

/** Sequences of photos, which are kept whole. */
export const KINDS = { bracket: "an exposure bracket", focus_stack: "a focus stack", panorama: "a panorama" };

/** What speaks for the best photo of a group, by the service's codes. */
export const REASONS = {
  sharpest_in_group: "its subject is the sharpest",
  least_motion_blur: "it is the least blurred by motion",
  least_noise: "it has the least noise",
  least_compression: "it is the least compressed",
  best_exposed: "it is exposed best",
  best_contrast: "it has the best contrast",
  truest_colours: "its colours are the truest",
  highest_score: "it scores highest",
  most_pixels: "it has the most pixels",
  nearly_equal: "all are nearly equal",
  eyes_not_judged: "nobody looked whether eyes are open",
};

/** Why a photo was picked. */
export function becauseOf(reasons) {
  const speaking = reasons.filter((code) => code !== "eyes_not_judged").map((code) => REASONS[code] ?? code.replaceAll("_", " "));
  const caution = reasons.includes("eyes_not_judged") ? " There are faces, and nobody looked whether eyes are open." : "";
  return `Picked because ${speaking.join(", ")}.${caution}`;
}

/** In what a photo is worse than the best one, and how sure it is that people prefer that one. */
export function worseIn({ worse, preferred }, best) {
  const defects = worse.map(({ defect }) => (DEFECTS[defect]?.name ?? capital(defect.replaceAll("_", " "))).toLowerCase());
  const sure = `${best} is better with a probability of ${Math.min(Math.round(100 * preferred), 99)} %.`;
  return defects.length ? `${sure} This one has more: ${defects.join(", ")}.` : sure;
}

/**
 * Which of two photos is the better one, and how sure that is.
 * @param {Object} left  Name and score.
 * @param {Object} right Name and score.
 * @param {?number} error How many points the model is off on average.
 */
export function verdict(left, right, error) {
  const gap = Math.abs(left.score - right.score);
  const better = left.score >= right.score ? left : right;
  if (gap < 0.05) return "Both score the same.";
  const lead = `${better.name} scores ${gap.toFixed(1)} points higher`;
  if (!error) return `${lead}.`;
  if (gap < error) return `${lead}. That is less than the model's usual error of ${Math.round(error)} points: people may see it the other way round.`;
  return `${lead}. That is more than the model's usual error of ${Math.round(error)} points: most people would likely agree.`;
}
