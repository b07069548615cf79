// Answers from what the page has kept, so that it opens without a network; each version of the page has its own cache.
"use strict";

const PLACE = `keras_mixer ${self.registration.scope} `;
const CACHE = `${PLACE}@VERSION@`;
const FILES = ["./", @FILES@];

self.addEventListener("install", (event) => {
  const requests = FILES.map((file) => new Request(file, { cache: "reload" }));
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(requests)));
  self.skipWaiting(); // a page that is open has all that it needs in memory
});

self.addEventListener("activate", (event) => {
  const old = (name) => name.startsWith(PLACE) && name !== CACHE;
  event.waitUntil(caches.keys().then((names) => Promise.all(names.filter(old).map((name) => caches.delete(name)))));
});

self.addEventListener("fetch", (event) => {
  if (event.request.method !== "GET") return;
  const kept = caches.open(CACHE).then((cache) => cache.match(event.request));
  event.respondWith(kept.then((response) => response || fetch(event.request)));
});
