// The page's interface to the model, which runs in a worker.

import { Calls } from "./calls.js";
import { FaceFinder } from "./face_finder.js";
import { supportsFeature } from "./litert/index.js";

// Loads the folder's model: {model, description, size, finder}; the description is model.json, the
// size in bytes. finder: finds faces, if the model has been trained on faces in CelebA's framing.
// Rejects with a one-line message.
export async function loadModel() {
  const description = await readDescription();
  const bytes = new Uint8Array(await (await get("model.tflite")).arrayBuffer());
  const size = bytes.length; // 0 once they are transferred
  if (new TextDecoder().decode(bytes.subarray(4, 8)) !== "TFL3") {
    throw new Error(
      "model.tflite is damaged or not a TFLite model; export the page again with cgan export",
    );
  }
  const cascades = description.crop === "celeba" ? await readJson("cascades.json") : undefined;
  const model = await startModel(description, bytes);
  return { model, description, size, finder: cascades && new FaceFinder(cascades) };
}

// The content of one of the page's own files.
async function readJson(name) {
  try {
    return await (await get(name)).json();
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new Error(`${name} is damaged; export the page again with cgan export`);
  }
}

async function readDescription() {
  const given = await readJson("model.json");
  const { attributes, latent_shape: latent, features_shape: features, resolution } = given ?? {};
  if (![attributes, latent, features].every(Array.isArray) || !Number.isInteger(resolution)) {
    throw new Error("model.json is damaged; export the page again with cgan export");
  }
  return given;
}

// Starts the worker and loads the model into it.
//
// Afterwards the page and its worker cannot connect anywhere, not even to their own server: the
// runtime is fetched first, then all connections are forbidden, then the worker is started.
//
// description: content of model.json; bytes: content of model.tflite, transferred to the worker.
// Rejects with a one-line message if the browser cannot run the model, or the model is not valid.
async function startModel(description, bytes) {
  // The library's own rule for choosing among its builds without threads.
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

// Fetches one of the page's own files.
async function get(name) {
  let response;
  try {
    response = await fetch(name);
  } catch (error) {
    throw new Error(`${name} cannot be loaded (${error.message}); serve the complete folder`);
  }
  if (!response.ok) {
    throw new Error(`${name} cannot be loaded (${response.status}); serve the complete folder`);
  }
  return response;
}

// Adds a second policy to the document's: both apply, and neither can be removed again.
function forbidConnections() {
  const policy = document.createElement("meta");
  policy.httpEquiv = "Content-Security-Policy";
  policy.content = "connect-src blob:"; // a blob is in the page's own memory
  document.head.append(policy);
}

function folder() {
  return new URL("./", import.meta.url).href;
}

class Model extends Calls {
  constructor() {
    // A classic worker, see worker.js.
    super(`importScripts(${JSON.stringify(`${folder()}worker.js`)});`, {}, "the model");
  }

  // The outputs of a signature. Inputs and outputs: Float32Arrays by name, in C order, batch 1.
  run(signature, inputs) {
    return this.send({ signature, inputs });
  }
}
