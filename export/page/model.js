// The model in its worker, for the page.

import { supportsFeature } from "./litert/index.js";

// Starts the worker and loads the model into it.
//
// From here on the page and its worker have no connection to anywhere, not even to their own server:
// the runtime is fetched first, then every connection is forbidden, then the worker is started.
//
// description: model.json's content; bytes: model.tflite's, which the worker takes over.
// Rejects with one clear line where the browser cannot run it or the model is not what it should be.
export async function startModel(description, bytes) {
  // The library's own choice among its builds without threads.
  const build = (await supportsFeature("relaxedSimd")) ? "" : "_compat";
  const name = `litert/litert_wasm${build}_internal`;
  const wasm = URL.createObjectURL(await (await get(`${name}.wasm`)).blob());
  forbidConnections();
  const model = new Model();
  const base = folder();
  await model.send({ load: { model: bytes, base, script: `${base}${name}.js`, wasm, description } }, [
    bytes.buffer,
  ]);
  return model;
}

// One of the page's own files.
export async function get(name) {
  let response;
  try {
    response = await fetch(name);
  } catch (error) {
    throw new Error(`${name} cannot be loaded (${error.message}); serve the whole folder`);
  }
  if (!response.ok) {
    throw new Error(`${name} cannot be loaded (${response.status}); serve the whole folder`);
  }
  return response;
}

// A second policy beside the document's: what either forbids is forbidden, and none can be taken back.
function forbidConnections() {
  const policy = document.createElement("meta");
  policy.httpEquiv = "Content-Security-Policy";
  policy.content = "connect-src blob:"; // a blob is in the page's own memory
  document.head.append(policy);
}

function folder() {
  return new URL("./", import.meta.url).href;
}

class Model {
  constructor() {
    // A worker from a file would have the content policy of the file's headers, which is none; one
    // from a blob has the page's: what sees the photo must have no connection either.
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
