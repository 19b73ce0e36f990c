// Installs the service worker that stores the page on the device.

const INSTALL_WAIT = 5000; // maximum ms that the first visit waits for the service worker

// Installs offline.js before the files that it caches are requested. Returns its registration, or
// undefined if the browser does not support or allow service workers.
export async function keepOffline() {
  try {
    const container = navigator.serviceWorker;
    const registration = await container.register("offline.js");
    if (registration.active) return registration;
    await new Promise((resolve) => {
      container.addEventListener("controllerchange", resolve, { once: true });
      registration.installing?.addEventListener("statechange", ({ target }) => {
        if (target.state === "redundant") resolve(); // it could not be installed
      });
      setTimeout(resolve, INSTALL_WAIT);
    });
    return registration;
  } catch {
    return undefined;
  }
}

// Whether the page is stored, in words.
export async function offlineWords(registration) {
  if (registration?.waiting) return "A newer version is available: close this page, then open it again.";
  if (registration && (await caches.match("model.tflite"))) {
    return "The page is stored on this device and works offline.";
  }
  return "This browser does not store the page; it needs its server (https or localhost) every time.";
}
