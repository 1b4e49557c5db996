/** A photo of the list, from the moment it is chosen. */

const THUMBNAIL = 112;
/** Kinds of files that are no photos whatever is in them; the rest is for the service to tell. */
const NO_PICTURES = /^(audio|video|text|application)\//;

let made = 0;

export class Photo {
  /** @type {"waiting"|"scoring"|"done"|"failed"} */
  state = "waiting";
  /** The service's answer, once there is one. */
  answer = null;
  /** Why there is none. */
  problem = null;
  /** The quality map; undefined until it was asked for, null if there is none. */
  map = undefined;
  /** The map's promise, while it is asked for. */
  charting = null;
  /** Why it takes longer, in words. */
  delay = "";
  /** Milliseconds from the first byte sent to the answer. */
  roundTrip = 0;
  thumbnail = null;
  /** Whether it is the best of its group, or somebody chose it; null until that was asked. */
  picked = null;
  #url = "";

  /** @param {File} file @param {string} name What to call it. */
  constructor(file, name = file.name) {
    made += 1;
    this.number = made;
    this.file = file;
    this.name = name;
  }

  get isPicture() {
    return !NO_PICTURES.test(this.file.type);
  }

  /** Where the browser finds its bytes. */
  get url() {
    this.#url ||= URL.createObjectURL(this.file);
    return this.#url;
  }

  /** Let go of the bytes that are only needed while the photo is shown large. */
  release() {
    URL.revokeObjectURL(this.#url);
    this.#url = "";
  }

  /** Forget what is known, before it is scored again. */
  reset() {
    Object.assign(this, { state: "waiting", answer: null, problem: null, map: undefined, charting: null, delay: "", picked: null });
  }

  /** Make the small picture for the table; a browser that cannot read the format leaves none. */
  async shrink() {
    if (this.thumbnail) return;
    try {
      const bitmap = await createImageBitmap(this.file, { resizeWidth: 2 * THUMBNAIL, resizeQuality: "medium" });
      const scale = THUMBNAIL / Math.min(bitmap.width, bitmap.height);
      const canvas = document.createElement("canvas");
      canvas.width = canvas.height = THUMBNAIL;
      const [width, height] = [bitmap.width * scale, bitmap.height * scale];
      canvas.getContext("2d").drawImage(bitmap, (THUMBNAIL - width) / 2, (THUMBNAIL - height) / 2, width, height);
      bitmap.close();
      this.thumbnail = canvas;
    } catch {
      this.thumbnail = null;
    }
  }
}
