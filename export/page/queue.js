// Requests to draw: one at a time, only the latest, since sliders and fingers are faster than models.

import { say, sayError } from "./text.js";

export class Queue {
  // draw: async, draws the current state; called while `possible()`.
  constructor(draw, possible) {
    Object.assign(this, { draw, possible });
    this.pending = false;
    this.working = undefined; // promise, while requests are processed
    this.timer = undefined; // of a request that waits
    this.failed = false; // the last request; its message stays until one succeeds
  }

  get idle() {
    return !this.working && this.timer === undefined;
  }

  // Draws, now or once `wait` ms have passed without another request that waits.
  request(wait) {
    if (wait !== undefined) {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => {
        this.timer = undefined;
        this.request();
      }, wait);
      return;
    }
    this.pending = true;
    this.working ??= this.work().finally(() => {
      this.working = undefined;
    });
  }

  async work() {
    try {
      while (this.pending && this.possible()) {
        this.pending = false;
        await this.draw();
        if (this.failed) say("Move the sliders.");
        this.failed = false;
      }
    } catch (error) {
      this.pending = false;
      this.failed = true;
      sayError(error);
    }
  }
}
