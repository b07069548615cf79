// Which way up a picture is stored, by its EXIF data, and how to turn it.
"use strict";

// Return the orientation that a JPEG states, 1 to 8; 1, upright, where it states none.
function orientationOfJpeg(data) {
  let at = 2;
  while (at + 4 < data.length) {
    if (data[at] !== 0xff || data[at + 1] === 0xff) at++;
    else if (data[at + 1] === 0x01 || (data[at + 1] >= 0xd0 && data[at + 1] <= 0xd8)) at += 2;
    else if (data[at + 1] === 0xda) return 1;
    else if (data[at + 1] === 0xe1 && textAt(data, at + 4, 6) === "Exif\0\0") return orientationOfTiff(data.subarray(at + 10));
    else at += 2 + (data[at + 2] << 8) + data[at + 3];
  }
  return 1;
}

// Return the orientation of a WebP, and take its EXIF data out of its bytes: some browsers turn it, and others do not.
function takeOrientationOfWebp(data) {
  const view = new DataView(data.buffer);
  for (let at = 12, size = 0; at + 8 <= data.length; at += 8 + size + (size & 1)) {
    size = view.getUint32(at + 4, true);
    if (textAt(data, at, 4) === "VP8X") data[at + 8] &= ~8; // says that EXIF data follow
    if (textAt(data, at, 4) !== "EXIF") continue;
    data.set([0x6e, 0x6f, 0x6e, 0x65], at); // a name that no decoder knows
    const start = at + 8 + (textAt(data, at + 8, 6) === "Exif\0\0" ? 6 : 0);
    return orientationOfTiff(data.subarray(start, at + 8 + size));
  }
  return 1;
}

function orientationOfTiff(part) {
  const view = new DataView(part.buffer, part.byteOffset, part.byteLength), little = part[0] === 0x49;
  if (part.length < 8 || textAt(part, 0, 4) !== (little ? "II*\0" : "MM\0*")) return 1;
  const directory = view.getUint32(4, little);
  if (directory + 2 > part.length) return 1;
  const count = view.getUint16(directory, little);
  for (let k = 0, at = directory + 2; k < count && at + 12 <= part.length; k++, at += 12) {
    const kind = view.getUint16(at + 2, little);
    if (view.getUint16(at, little) !== 0x0112 || (kind !== 3 && kind !== 4)) continue;
    const value = kind === 3 ? view.getUint16(at + 8, little) : view.getUint32(at + 8, little);
    return value >= 1 && value <= 8 ? value : 1;
  }
  return 1;
}

function textAt(data, start, length) {
  return String.fromCharCode(...data.subarray(start, start + length));
}

// Return a picture turned and mirrored as an orientation asks for.
function upright({ width, height, data }, orientation) {
  if (orientation === 1) return { width, height, data };
  const across = orientation > 4, views = (orientation - 1) % 4;
  const out = { width: across ? height : width, height: across ? width : height, data: new Uint8Array(data.length) };
  const from = new Uint32Array(data.buffer), to = new Uint32Array(out.data.buffer);
  const mirrored = views === 1 || views === 2, upsideDown = views > 1;
  for (let y = 0, at = 0; y < out.height; y++) {
    const row = upsideDown ? out.height - 1 - y : y;
    for (let x = 0; x < out.width; x++, at++) {
      const column = mirrored ? out.width - 1 - x : x;
      to[at] = from[across ? column * width + row : row * width + column];
    }
  }
  return out;
}
