// Runs the model in a worker, so that the page stays responsive.
//
// A classic worker, because LiteRT's loader is a classic script for importScripts(); started from a
// blob, so that the page's content policy applies here too (see model.js).
//
// In:  {id, load: {model, base, script, wasm, description}} once: the model's bytes, the addresses of
//      the folder, LiteRT's loader and its WebAssembly, the content of model.json; then
//      {id, signature, inputs: {name: Float32Array}}.
// Out: {id, outputs: {name: Float32Array}} or {id, error: one line}.
"use strict";

let litert;
let model;
let signatures; // {inputs, outputs}, names of tensors, by the signature's name
let shapes; // by the tensor's name

async function load({ model: bytes, base, script, wasm, description }) {
  const side = description.resolution;
  const code = description.features_shape.includes(0) ? ["latent"] : ["latent", "features"];
  signatures = {
    translate: { inputs: ["image", "strengths"], outputs: ["image"] },
    encode: { inputs: ["image"], outputs: code },
    generate: { inputs: [...code, "strengths"], outputs: ["image"] },
  };
  shapes = {
    image: [1, side, side, 3],
    latent: [1, ...description.latent_shape],
    features: [1, ...description.features_shape],
    strengths: [1, description.attributes.length],
  };
  // Read by LiteRT's loader: where its WebAssembly is, and where its log goes. Only errors matter.
  self.Module = {
    locateFile: () => wasm,
    printErr: (line) => {
      if (/^(ERROR|FATAL)/.test(line)) console.error(line);
    },
  };
  try {
    litert = await import(`${base}litert/index.js`);
    await litert.loadLiteRt(script);
  } catch (error) {
    throw new Error(`this browser cannot run the model (${reason(error)})`);
  }
  try {
    model = await litert.loadAndCompile(bytes, { accelerator: "wasm" });
  } catch (error) {
    throw new Error(`model.tflite is damaged or not a TFLite model (${reason(error)})`);
  }
  check(model.signatures);
}

// Refuses a model from another tool, or one that does not match its description.
function check(found) {
  const remedy = "export the page again with cgan export --formats=page";
  for (const [name, { inputs, outputs }] of Object.entries(signatures)) {
    if (!found[name]) throw new Error(`model.tflite has no signature ${name}; ${remedy}`);
    const sides = [
      [found[name].getInputDetails(), inputs],
      [found[name].getOutputDetails(), outputs],
    ];
    for (const [details, expected] of sides) {
      for (const tensor of expected) {
        const detail = details.find((each) => each.name === tensor);
        const shape = detail ? `[${[...detail.shape]}] ${detail.dtype}` : "missing";
        if (details.length !== expected.length || shape !== `[${shapes[tensor]}] float32`) {
          throw new Error(
            `model.tflite does not fit model.json: ${name}'s ${tensor} is ${shape} instead of ` +
              `[${shapes[tensor]}] float32; ${remedy}`,
          );
        }
      }
    }
  }
}

async function run(signature, arrays) {
  const { inputs, outputs } = signatures[signature];
  const tensors = {}; // LiteRT's memory must be freed explicitly
  let results = {};
  try {
    for (const name of inputs) tensors[name] = new litert.Tensor(arrays[name], shapes[name]);
    results = await model.run(signature, tensors);
    return Object.fromEntries(outputs.map((name) => [name, results[name].toTypedArray()]));
  } finally {
    for (const tensor of Object.values(tensors)) tensor.delete();
    for (const tensor of Object.values(results)) tensor.delete();
  }
}

// Some of LiteRT's errors are long, and some are not Error objects.
function reason(error) {
  return String(error?.message ?? error).split("\n")[0].slice(0, 160);
}

// In sequence: LiteRT runs one call at a time.
let before = Promise.resolve();
self.onmessage = ({ data }) => {
  before = before.then(() => answer(data));
};

async function answer({ id, load: parts, signature, inputs }) {
  try {
    if (parts) {
      await load(parts);
      self.postMessage({ id });
      return;
    }
    const outputs = await run(signature, inputs);
    self.postMessage({ id, outputs }, Object.values(outputs).map(({ buffer }) => buffer));
  } catch (error) {
    self.postMessage({ id, error: String(error?.message ?? error) });
  }
}
