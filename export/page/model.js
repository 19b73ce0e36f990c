// The model in its worker, for the page.

// Starts the worker and loads the model into it.
//
// description: model.json's content; bytes: model.tflite's, which the worker takes over.
// Rejects with one clear line where the browser cannot run it or the model is not what it should be.
export async function startModel(description, bytes) {
  const model = new Model();
  await model.send({ load: { model: bytes, base: folder(), description } }, [bytes.buffer]);
  return model;
}

function folder() {
  return new URL("./", import.meta.url).href;
}

class Model {
  constructor() {
    // A worker from a file would have the content policy of the file's headers, which is none; one
    // from a blob has the page's: what sees the photo must not reach another host either.
    const script = `importScripts(${JSON.stringify(`${folder()}worker.js`)});`;
    const address = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
    this.worker = new Worker(address);
    this.waiting = new Map(); // by the number of the request
    this.count = 0;
    this.worker.onmessage = ({ data: { id, output, error } }) => {
      const { resolve, reject } = this.waiting.get(id);
      this.waiting.delete(id);
      if (error === undefined) resolve(output);
      else reject(new Error(error));
    };
    this.worker.onerror = (event) => {
      event.preventDefault();
      const error = new Error(`the model has stopped (${event.message ?? "no reason given"})`);
      for (const { reject } of this.waiting.values()) reject(error);
      this.waiting.clear();
    };
  }

  // A signature's output, Float32Array. inputs: Float32Arrays by name, in C order, batch 1.
  run(signature, inputs) {
    return this.send({ signature, inputs });
  }

  send(message, transfer = []) {
    return new Promise((resolve, reject) => {
      const id = this.count++;
      this.waiting.set(id, { resolve, reject });
      this.worker.postMessage({ id, ...message }, transfer);
    });
  }
}
