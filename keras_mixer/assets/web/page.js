// What a visitor does and sees: gives a picture by file, drop, paste or camera, and reads the classes.
"use strict";

const find = (id) => document.getElementById(id);
let classifier = null; // a promise once the page is usable
let latest = 0; // number of the newest picture; answers to older ones are thrown away

function start() {
  classifier = loadClassifier(showProgress);
  classifier.then(
    () => say(""),
    (error) => refuse(error instanceof Fault ? error.message : `The model could not be started (${error.message}).`),
  );
  find("file").addEventListener("change", (event) => {
    give(event.target.files);
    event.target.value = ""; // so that the same file can be chosen again
  });
  document.addEventListener("paste", (event) => give(event.clipboardData.files, "There is no picture on the clipboard. Copy one first."));
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    find("place").classList.add("over");
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget || find("place").classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    find("place").classList.remove("over");
    give(event.dataTransfer.files, "That was no file. Save the picture first, and drop the file.");
  });
  find("camera").addEventListener("click", startCamera);
  find("shoot").addEventListener("click", shoot);
  find("stop").addEventListener("click", stopCamera);
}

function showProgress(count, size) {
  const bar = find("progress");
  bar.hidden = count === null;
  if (count === null) return say("Starting the model");
  bar.value = count / size;
  const unit = (number) => (size < 1e6 ? Math.round(number / 1e3) : millions(number));
  say(`Loading the model, ${unit(count)} of ${unit(size)} ${size < 1e6 ? "kB" : "MB"}`);
}

function say(text) {
  find("status").textContent = text;
}

function refuse(sentence) {
  say("");
  find("progress").hidden = true;
  find("fault").textContent = sentence;
  find("fault").hidden = false;
}

function give(files, nothing) {
  if (files.length) show(files[0], files[0].name || "The picture");
  else if (nothing) refuse(nothing);
}

async function show(blob, name) {
  const number = ++latest;
  find("fault").hidden = true;
  find("answer").hidden = true;
  try {
    const { settings, names, classify } = await classifier;
    say("Looking at the picture");
    await new Promise((resolve) => setTimeout(resolve, 30)); // lets the browser draw this before it computes
    if (number !== latest) return;
    const begin = performance.now();
    const picture = await readPicture(blob, name, settings);
    const probabilities = await classify(picture);
    const took = performance.now() - begin;
    if (number !== latest) return;
    answer(probabilities, names, settings.top);
    const text = took < 10 ? took.toFixed(1) : Math.round(took);
    find("time").textContent = `${name}, ${picture.width} x ${picture.height} pixels: decoded and classified in ${text} ms.`;
    display(blob, settings.background);
    say("");
  } catch (error) {
    if (number !== latest) return;
    refuse(error instanceof Fault ? error.message : `${name} could not be classified (${error.message}).`);
  }
}

function display(blob, background) {
  const image = find("shown"), former = image.src;
  image.style.background = background;
  image.src = URL.createObjectURL(blob);
  if (former) URL.revokeObjectURL(former);
}

function answer(probabilities, names, top) {
  const best = probabilities.map((_, index) => index).sort((a, b) => probabilities[b] - probabilities[a] || a - b);
  find("classes").replaceChildren(...best.slice(0, top).map((index) => row(names[index], probabilities[index])));
  find("best").textContent = `Most likely: ${names[best[0]]}`;
  find("answer").hidden = false;
}

function row(name, probability) {
  const item = document.createElement("li"), line = document.createElement("div"), bar = document.createElement("div");
  const percent = `${(100 * probability).toFixed(1)} %`;
  line.className = "row";
  bar.className = "bar";
  for (const text of [name, percent]) {
    const span = document.createElement("span");
    span.textContent = text;
    line.append(span);
  }
  bar.append(document.createElement("div"));
  bar.firstChild.style.width = percent.replace(" ", "");
  item.dataset.probability = probability;
  item.append(line, bar);
  return item;
}

async function startCamera() {
  try {
    find("video").srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    const denied = error.name === "NotAllowedError";
    const why = !navigator.mediaDevices ? "gives the camera only to pages over HTTPS or from localhost"
      : denied ? "does not let this page use the camera; allow it in the browser's settings" : "found no camera that it can use";
    return refuse(`This browser ${why}. A picture can be chosen as a file instead.`);
  }
  find("fault").hidden = true;
  find("film").hidden = false;
  find("camera").hidden = true;
  find("shoot").focus();
}

function shoot() {
  const video = find("video"), canvas = document.createElement("canvas");
  if (!video.videoWidth) return refuse("The camera has not sent a picture yet. Try again in a moment.");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob((blob) => show(blob, "The picture"), "image/png");
  stopCamera();
}

function stopCamera() {
  for (const track of find("video").srcObject.getTracks()) track.stop();
  find("video").srcObject = null;
  find("film").hidden = true;
  find("camera").hidden = false;
  find("camera").focus();
}

if (usable) start();
