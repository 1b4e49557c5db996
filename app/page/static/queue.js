/** Does tasks a few at a time, in their order. */
export class Queue {
  #width;
  #running = 0;
  #tasks = [];

  /** @param {number} width How many at a time. */
  constructor(width) {
    this.#width = width;
  }

  /** @param {function(): Promise} task Sees to its own errors. */
  add(task) {
    this.#tasks.push(task);
    this.#next();
  }

  /** Forget what has not begun. */
  clear() {
    this.#tasks = [];
  }

  async #next() {
    if (this.#running >= this.#width || !this.#tasks.length) return;
    this.#running += 1;
    try {
      await this.#tasks.shift()();
    } finally {
      this.#running -= 1;
      this.#next();
    }
  }
}
