// Calls to a worker that answers each message {id, ...} with {id, outputs} or {id, error}.

export class Calls {
  /**
   * Starts the worker.
   *
   * @param {string} script its source
   * @param {WorkerOptions} options
   * @param {string} name of what it does, for errors
   */
  constructor(script, options, name) {
    // A worker loaded from a file has the content policy of that file's headers, which is none. One
    // loaded from a blob inherits the page's, so the worker, which sees the photo, cannot connect.
    const address = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
    this.worker = new Worker(address, options);
    this.waiting = new Map(); // by the request's id
    this.count = 0;
    this.worker.onmessage = ({ data: { id, outputs, error } }) => {
      const { resolve, reject } = this.waiting.get(id);
      this.waiting.delete(id);
      if (error === undefined) resolve(outputs);
      else reject(new Error(error));
    };
    this.worker.onerror = (event) => {
      event.preventDefault();
      const error = new Error(`${name} stopped (${event.message ?? "no reason given"})`);
      for (const { reject } of this.waiting.values()) reject(error);
      this.waiting.clear();
    };
  }

  /** The outputs of one call. */
  send(message, transfer = []) {
    return new Promise((resolve, reject) => {
      const id = this.count++;
      this.waiting.set(id, { resolve, reject });
      this.worker.postMessage({ id, ...message }, transfer);
    });
  }
}
