// Whether this browser can run the page at all, in words that the oldest ones understand; page.js asks `usable`.
var usable = (function () {
  "use strict";
  function refuse(sentence) {
    document.getElementById("status").hidden = true;
    var fault = document.getElementById("fault");
    fault.textContent = sentence;
    fault.hidden = false;
    return false;
  }
  // A function that uses vectors of 128 bits, which the runtime needs.
  var vectors = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];
  if (window.location.protocol === "file:") {
    return refuse("A browser may not load the model from a file on disk. Serve this folder, for example with " +
      "python -m http.server, and open http://localhost:8000.");
  }
  if (!window.WebAssembly || !window.WebAssembly.validate(new Uint8Array(vectors))) {
    return refuse("This browser is too old: it lacks WebAssembly with vectors, in which the model computes. Use a newer one.");
  }
  if (!window.createImageBitmap || !window.fetch || !window.ReadableStream || !window.Promise) {
    return refuse("This browser is too old: it cannot read a picture's pixels here. Use a newer one.");
  }
  return true;
})();
