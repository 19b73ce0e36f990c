// Undo and redo: the states of the editor in their order, one of which is shown.
//
// A state is never changed, only replaced. A step is one action, one drag, or one run of changes to
// the same control, such as several arrow keys on one slider.

const LIMIT = 100; // states that are kept

export class History {
  constructor(state) {
    this.clear(state);
  }

  // Starts again from a state.
  clear(state) {
    this.states = [state];
    this.at = 0;
    this.run = undefined; // the control that the last step belongs to
  }

  // Adds a state; one of the same run takes the place of the last. control: a name, or undefined for
  // a step of its own.
  record(state, control) {
    if (control === undefined || control !== this.run) this.at += 1;
    this.states.splice(this.at, Infinity, state);
    if (this.states.length > LIMIT) this.states.shift();
    this.at = this.states.length - 1;
    this.run = control;
  }

  // The next change starts a new step, whatever its control.
  endRun() {
    this.run = undefined;
  }

  get canUndo() {
    return this.at > 0;
  }

  get canRedo() {
    return this.at < this.states.length - 1;
  }

  // The previous state, or the first.
  undo() {
    return this.go(-1);
  }

  // The state that was undone last, or the last.
  redo() {
    return this.go(1);
  }

  go(step) {
    this.endRun();
    this.at = Math.min(Math.max(this.at + step, 0), this.states.length - 1);
    return this.states[this.at];
  }
}
