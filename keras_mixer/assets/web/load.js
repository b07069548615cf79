// The runtime and the model, fetched with progress, checked, kept for use without a network.
"use strict";

class Fault extends Error {} // whose message is a sentence for people

async function loadClassifier(progress) {
  const settings = await (await fetched("settings.json")).json();
  const names = await (await fetched("classes.json")).json();
  const cache = await openCache(settings.version);
  const { runtime, model } = settings;
  const [ort, bytes] = await Promise.all([
    loadRuntime(runtime, cache),
    loadModel(`${model.file}?v=${settings.version}`, model.bytes, cache, progress),
  ]);
  progress(null);
  const session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
  forbidConnections();
  async function classify(picture) {
    const image = new ort.Tensor("uint8", picture.data, [picture.height, picture.width, 4]);
    const { probabilities } = await session.run({ image });
    const values = Array.from(probabilities.data);
    image.dispose();
    probabilities.dispose();
    return values;
  }
  return { settings, names, classify };
}

async function fetched(url, options) {
  let response;
  try {
    response = await fetch(url, options);
  } catch (error) {
    throw new Fault(`${url} could not be loaded. Check the connection, and load this page again.`);
  }
  if (!response.ok) {
    throw new Fault(`${url} could not be loaded (HTTP status ${response.status}). Put the whole folder on the server.`);
  }
  return response;
}

// No <script> with an integrity attribute hands out what a module exports, and a .wasm file has no such attribute:
// both files are fetched with their hashes, and the script is then imported from memory.
async function loadRuntime(runtime, cache) {
  const load = async ({ file, integrity }) => {
    const url = runtime.base + file;
    let response;
    try {
      response = await fetch(url, { integrity });
    } catch (error) {
      throw new Fault(`The runtime ${url} could not be loaded, or is not the expected one. Check the connection, or ` +
        "export again with --web_runtime, which puts the runtime beside this page.");
    }
    if (!response.ok) throw new Fault(`The runtime ${url} could not be loaded (HTTP status ${response.status}).`);
    const bytes = await response.arrayBuffer();
    await keep(cache, url, bytes);
    return bytes;
  };
  const [script, wasm] = await Promise.all([load(runtime.script), load(runtime.wasm)]);
  const url = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  const ort = await import(url);
  ort.env.wasm.wasmBinary = wasm;
  // Browsers share memory between threads only where the server sends the headers that isolate the page.
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency) : 1;
  return ort;
}

async function loadModel(url, size, cache, progress) {
  const response = await fetched(url);
  const bytes = new Uint8Array(size), reader = response.body.getReader();
  let count = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    if (count + value.length > size) throw new Fault(`${url} is not the model of this page. Put the whole folder on the server.`);
    bytes.set(value, count);
    count += value.length;
    progress(count, size);
  }
  if (count < size) throw new Fault(`Of ${url} only ${count} of ${size} bytes arrived. Load this page again.`);
  await keep(cache, url, bytes);
  return bytes;
}

// sw.js answers from this cache; a browser has none where the page came over plain HTTP from another machine.
async function openCache(version) {
  try {
    const registration = await navigator.serviceWorker.register("sw.js");
    return await caches.open(`keras_mixer ${registration.scope} ${version}`);
  } catch (error) {
    return null;
  }
}

async function keep(cache, url, bytes) {
  try {
    const type = url.endsWith("js") ? "text/javascript" : "application/octet-stream";
    if (cache && !(await cache.match(url))) await cache.put(url, new Response(bytes, { headers: { "Content-Type": type } }));
  } catch (error) {
    // The disk is full, or private: the page works, but not after a reload without a network.
  }
}

// A second policy can only forbid more than the first one in the page does.
function forbidConnections() {
  const meta = document.createElement("meta");
  meta.httpEquiv = "Content-Security-Policy";
  meta.content = "connect-src 'none'";
  document.head.append(meta);
}
