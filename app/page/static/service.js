/** The service: its key, its models, its scores, and patience when it is busy. */

const KEY = "smart-iqa-key";
const BUSY_TRIES = 12;
const NETWORK_TRIES = 4;
const LONGEST_WAIT = 60;

/** What the service answers when it cannot do what was asked. */
export class Problem extends Error {
  constructor({ code, title = "", detail = "", status = 0 }) {
    super(code);
    this.code = code;
    this.title = title;
    this.detail = detail;
    this.status = status;
  }
}

/**
 * Asks the service, sends the key along where there is one, and asks again when it is told to come later.
 * @param {Object} listener `keyNeeded(code)` is called when a key is missing or wrong, `keyTaken()` when one opened the door.
 */
export class Service {
  constructor({ keyNeeded, keyTaken }) {
    this.keyNeeded = keyNeeded;
    this.keyTaken = keyTaken;
    this.key = sessionStorage.getItem(KEY) ?? "";
    this.waiting = [];
  }

  /** Use a key from now on, for as long as this tab is open, and go on with what waits for one. */
  useKey(key) {
    this.key = key;
    if (key) sessionStorage.setItem(KEY, key);
    else sessionStorage.removeItem(KEY);
    for (const goOn of this.waiting.splice(0)) goOn();
  }

  /**
   * The loaded models, once there are some.
   * @param {function(Problem, number)} onWait Called before each pause, with its reason and its seconds.
   */
  async models(onWait) {
    for (;;) {
      try {
        const { models } = await this.#ask("models", {}, { onWait });
        if (models.length) return models;
        onWait(new Problem({ code: "not_ready" }), 2);
      } catch (problem) {
        onWait(problem, 5);
        await pause(3);
      }
      await pause(2);
    }
  }

  /** The policies that may decide about photos. */
  async policies() {
    return (await this.#ask("policies", {}, {})).policies;
  }

  /**
   * Score a file.
   * @param {File} file
   * @param {Object} wish What is asked: `model`, `attention` (whether it weighs stages), `detail` ("crops" or "map"), `bulk`, `policy` ("" for none).
   * @param {Object} call `signal` to give up, `onWait(problem, seconds)` before each pause.
   * @throws {Problem}
   */
  score(file, { model, attention, detail, bulk, policy }, call) {
    const query = new URLSearchParams({ model, detail, ...(policy && { policy }) });
    const headers = { "Content-Type": "application/octet-stream", "X-Priority": bulk ? "bulk" : "interactive" };
    return this.#ask(`${attention ? "attention" : "score"}?${query}`, { method: "POST", body: file, headers }, call);
  }

  /**
   * Compare files.
   * @param {File[]} files
   * @param {string} model Its name.
   * @param {AbortSignal} signal
   * @throws {Problem}
   */
  compare(files, model, signal) {
    return this.#together("compare", files, model, { signal, once: true });
  }

  /**
   * Group files by what they show, and name the best of each group.
   * @param {File[]} files
   * @param {string} model Its name.
   * @param {Object} call As for `score`.
   * @throws {Problem}
   */
  pick(files, model, call) {
    return this.#together("pick", files, model, call);
  }

  #together(path, files, model, call) {
    const body = new FormData();
    files.forEach((file, place) => body.append("file", file, String(place)));
    return this.#ask(`${path}?${new URLSearchParams({ model })}`, { method: "POST", body }, call);
  }

  async #ask(path, options, { signal, onWait, once = false }) {
    let tries = 0;
    for (;;) {
      const key = this.key;
      let problem;
      let seconds;
      try {
        const headers = { ...options.headers, ...(key && { "X-API-Key": key }) };
        const response = await fetch(path, { ...options, headers, signal });
        if (response.ok) {
          if (key) this.keyTaken();
          return await response.json();
        }
        problem = new Problem({ status: response.status, code: `http_${response.status}`, ...(await told(response)) });
        seconds = Number(response.headers.get("Retry-After")) || 2;
      } catch (error) {
        if (signal?.aborted) throw error;
        if (options.body instanceof File && !(await readable(options.body))) throw new Problem({ code: "unreadable" });
        problem = new Problem({ code: "unreachable" });
        seconds = 2 ** tries;
      }
      tries += 1;
      if (problem.status === 401) {
        // Another one may have brought a new key in the meantime.
        if (key === this.key) {
          const given = new Promise((goOn) => this.waiting.push(goOn));
          this.keyNeeded(problem.code);
          await given;
        }
        tries = 0;
        continue;
      }
      const patience = problem.code === "unreachable" ? NETWORK_TRIES : isBusy(problem) ? BUSY_TRIES : 0;
      if (once || tries >= patience) throw problem;
      seconds = Math.min(seconds, LONGEST_WAIT);
      onWait?.(problem, seconds);
      // Not all at the same moment again.
      await pause(seconds * (1 + Math.random() / 4), signal);
    }
  }
}

function isBusy({ status, code }) {
  return status === 429 || (status === 503 && code !== "device_lost");
}

async function told(response) {
  try {
    const { code, title, detail } = await response.json();
    return { code, title, detail };
  } catch {
    return {}; // Something between here and the service has answered.
  }
}

async function readable(file) {
  try {
    await file.slice(0, 1).arrayBuffer();
    return true;
  } catch {
    return false;
  }
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
