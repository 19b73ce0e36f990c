// The page's interface to the search for faces, which runs in a worker.

import { Calls } from "./calls.js";

/** @typedef {import("./face_crop.js").FaceBox} FaceBox */

export class FaceFinder extends Calls {
  /**
   * Starts the worker. Its scripts are modules of the page, so it can start without connections.
   *
   * @param {object} cascades content of cascades.json
   */
  constructor(cascades) {
    const address = new URL("./face_worker.js", import.meta.url).href;
    super(`import ${JSON.stringify(address)};`, { type: "module" }, "the search for faces");
    this.loaded = this.send({ cascades });
    this.loaded.catch(() => {}); // reported by find
  }

  /**
   * The faces in a photo, largest first.
   *
   * @param {{data: Uint8ClampedArray, width: number, height: number}} photo 4 bytes per pixel
   * @returns {Promise<FaceBox[]>}
   */
  async find({ data, width, height }) {
    await this.loaded;
    return this.send({ photo: { data, width, height } });
  }
}
