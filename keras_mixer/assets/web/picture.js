// A file to pixels as the evaluation of the model reads them, or a Fault with a sentence.
"use strict";

async function readPicture(blob, name, { limits, background, exif_rotation: turn }) {
  if (!blob.size) throw new Fault(`${name} is empty: it has no bytes. Choose another picture.`);
  if (blob.size > limits.bytes) {
    throw new Fault(`${name} has ${millions(blob.size)} MB, and ${millions(limits.bytes)} MB are the most. Choose a smaller picture.`);
  }
  const data = new Uint8Array(await blob.arrayBuffer());
  try {
    if (data[0] === 0xff && data[1] === 0xd8) {
      return upright(pixelsOfJpeg(readJpeg(data, limits)), turn ? orientationOfJpeg(data) : 1);
    }
  } catch (error) {
    if (error instanceof Fault) throw named(error, name);
    // Of a kind that is not read here, or damaged: perhaps the browser can.
  }
  const webp = textAt(data, 0, 4) === "RIFF" && textAt(data, 8, 4) === "WEBP";
  const orientation = webp ? takeOrientationOfWebp(data) : 1;
  let bitmap;
  try {
    bitmap = await createImageBitmap(new Blob([data], { type: blob.type }), {
      imageOrientation: turn ? "from-image" : "none",
      colorSpaceConversion: "none", // the numbers that are stored, whatever colours they mean
      premultiplyAlpha: "none", // rounded once, when they are put on the background
    });
  } catch (error) {
    throw new Fault(`${name} is no picture that this browser can read. Choose a JPEG, PNG, GIF, WebP or BMP file.`);
  }
  try {
    checkShape(bitmap.width, bitmap.height, limits);
    return upright(pixelsOfBitmap(bitmap, background), turn ? orientation : 1);
  } catch (error) {
    throw named(error, name);
  } finally {
    bitmap.close();
  }
}

function named(error, name) {
  return error instanceof Fault ? new Fault(`${name} ${error.message}`) : error;
}

function checkShape(width, height, { aspect, pixels }) {
  if (!width || !height) throw new Fault("has no pixels. Choose another picture.");
  const shape = `has ${width} x ${height} pixels`;
  if (Math.max(width, height) > aspect * Math.min(width, height)) {
    throw new Fault(`${shape}: one side is more than ${aspect} times the other. Cut it, or choose another.`);
  }
  if (width * height > pixels) {
    throw new Fault(`${shape}, and ${millions(pixels)} million are the most. Choose a smaller picture.`);
  }
}

function pixelsOfBitmap(bitmap, background) {
  const { width, height } = bitmap, canvas = document.createElement("canvas");
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
    throw new Fault(`has ${width} x ${height} pixels, too many for this browser. Choose a smaller picture.`);
  } finally {
    canvas.width = canvas.height = 0; // frees its memory now
  }
}

function millions(number) {
  return Math.round(number / 1e6);
}
