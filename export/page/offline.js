// A service worker that stores the page's files on the device, so that the page works offline.
//
// The small files are stored when the page is first opened; the model and the build of the runtime
// that this browser uses when they are first requested. Another export has another version; it
// takes over when the last page of the old one is closed, so that no page mixes files of both. Only
// requests for the folder's own files arrive here; photos are never part of a request.
"use strict";

const VERSION = "VERSION"; // hash of all files; export/browser.py inserts it
const SCOPE = self.registration.scope; // other exports may be on the same host
const NAME = `${SCOPE} ${VERSION}`;
const FRESH = { cache: "no-cache" }; // revalidates files that the browser has from an older export
const SMALL = "SMALL"; // names of the small files; export/browser.py inserts them

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

// `cgan page` serves each page in a folder named by its hash: the others are older.
const HASHED = /^https?:\/\/[^/]+\/[0-9a-f]{12}\/ /;

async function takeOver() {
  for (const name of await caches.keys()) {
    const older = name.startsWith(`${SCOPE} `) || (HASHED.test(NAME) && HASHED.test(name));
    if (older && name !== NAME) await caches.delete(name);
  }
  await self.clients.claim();
}

self.addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  if (method === "GET" && url.startsWith(SCOPE)) event.respondWith(answer(event.request));
});

async function answer(request) {
  const cache = await caches.open(NAME);
  const page = request.url.split(/[?#]/)[0] === `${SCOPE}index.html`; // the same file as the folder's
  const kept = await cache.match(page ? SCOPE : request, { ignoreSearch: true });
  if (kept) return kept;
  const response = await fetch(request, FRESH);
  // Waits for the copy, so that everything the page has loaded is available next time. If there is
  // no space for it, the page still works, and shows that it is not stored.
  if (response.status === 200) await cache.put(request, response.clone()).catch(() => {});
  return response;
}
