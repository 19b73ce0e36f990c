// A service worker that keeps the page's files on the device, so that it works without a network.
//
// The small files are kept when the page is first opened; the model and the runtime's build that
// this browser takes when they are first asked for. Another export has another version; it takes
// over when the last page of the old one is closed, so that no page gets files of both. What comes
// here are requests for the folder's own files, never a photo: photos are in no request.
"use strict";

const VERSION = "VERSION"; // of all files; export/page.py puts it in
const SCOPE = self.registration.scope; // other exports may lie on the same host
const NAME = `${SCOPE} ${VERSION}`;
const FRESH = { cache: "no-cache" }; // what the browser has of an older export is asked for anew
const SMALL = [
  "./", "style.css", "icon.svg", "model.json",
  "litert/LICENSE.txt", "app.js", "frame.js", "model.js", "photo.js", "pixels.js", "worker.js",
];

self.addEventListener("install", (event) => {
  event.waitUntil(keepSmall());
});

async function keepSmall() {
  const cache = await caches.open(NAME);
  await cache.addAll(SMALL.map((name) => new Request(name, FRESH)));
}

self.addEventListener("activate", (event) => {
  event.waitUntil(takeOver());
});

async function takeOver() {
  for (const name of await caches.keys()) {
    if (name.startsWith(`${SCOPE} `) && name !== NAME) await caches.delete(name);
  }
  await self.clients.claim();
}

self.addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  if (method === "GET" && url.startsWith(SCOPE)) event.respondWith(answer(event.request));
});

async function answer(request) {
  const cache = await caches.open(NAME);
  const page = request.url.split(/[?#]/)[0] === `${SCOPE}index.html`; // the same as the folder's
  const kept = await cache.match(page ? SCOPE : request, { ignoreSearch: true });
  if (kept) return kept;
  const response = await fetch(request, FRESH);
  // Waits for the copy: what the page has loaded is then there the next time. Without room for it
  // the page works all the same, and says that it was not kept.
  if (response.status === 200) await cache.put(request, response.clone()).catch(() => {});
  return response;
}
