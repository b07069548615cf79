// A file to pixels as the evaluation of the model reads them, or a Fault with a sentence.
"use strict";

async function readPicture(blob, name, settings) {
  const { limits, background, exif_rotation } = settings;
  if (!blob.size) throw new Fault(`${name} is empty: it has no bytes. Choose another picture.`);
  if (blob.size > limits.bytes) {
    throw new Fault(`${name} has ${millions(blob.size)} MB, and ${millions(limits.bytes)} MB are the most. Choose a smaller picture.`);
  }
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, {
      imageOrientation: exif_rotation ? "from-image" : "none",
      colorSpaceConversion: "none", // the numbers that are stored, whatever colours they mean
    });
  } catch (error) {
    throw new Fault(`${name} is no picture that this browser can read. Choose a JPEG, PNG, GIF, WebP or BMP file.`);
  }
  try {
    return pixelsOf(bitmap, name, limits, background);
  } finally {
    bitmap.close();
  }
}

function pixelsOf(bitmap, name, limits, background) {
  const { width, height } = bitmap;
  if (!width || !height) throw new Fault(`${name} has no pixels. Choose another picture.`);
  const shape = `${name} has ${width} x ${height} pixels`;
  if (Math.max(width, height) > limits.aspect * Math.min(width, height)) {
    throw new Fault(`${shape}: one side is more than ${limits.aspect} times the other. Cut it, or choose another.`);
  }
  if (width * height > limits.pixels) {
    throw new Fault(`${shape}, and ${millions(limits.pixels)} million are the most. Choose a smaller picture.`);
  }
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  try {
    const context = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
    context.fillStyle = background; // shows through transparent pixels
    context.fillRect(0, 0, width, height);
    context.drawImage(bitmap, 0, 0); // at full size: the model does the resizing
    const { data } = context.getImageData(0, 0, width, height);
    return { width, height, data: new Uint8Array(data.buffer) };
  } catch (error) {
    throw new Fault(`${shape}, too many for this browser. Choose a smaller picture.`);
  } finally {
    canvas.width = canvas.height = 0; // frees its memory now
  }
}

function millions(number) {
  return Math.round(number / 1e6);
}
