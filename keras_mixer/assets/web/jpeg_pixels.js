// The coefficients of a JPEG to pixels, level for level as TensorFlow's decoder does, with which the model was trained:
// libjpeg's fast inverse cosine transform, which cuts fractions off, its smooth upsampling of colour, its conversion to RGB.
// A browser's own decoder is more exact, and so half a level brighter in the mean, which some classes feel.
"use strict";

const SCALES = [16384, 22725, 21407, 19266, 16384, 12873, 8867, 4520]; // of a row or column, in 16384ths

// Return { width, height, data } with data RGBA, not turned.
function pixelsOfJpeg(jpeg) {
  const { width, height, components } = jpeg;
  const rows = components.map((component) => upsampler(component, jpeg));
  const data = new Uint8Array(4 * width * height), out = new Uint32Array(data.buffer);
  const clamped = new Uint8Array(1024); // of -384 to 639
  for (let k = 0; k < 1024; k++) clamped[k] = Math.min(Math.max(k - 384, 0), 255);
  const table = (factor, half) => Int32Array.from({ length: 256 }, (_, k) => factor * (k - 128) + half);
  const red = table(91881, 32768).map((x) => x >> 16), blue = table(116130, 32768).map((x) => x >> 16);
  const greenOfRed = table(-46802, 0), greenOfBlue = table(-22554, 32768);
  for (let y = 0, at = 0; y < height; y++) {
    const [first, second, third, fourth] = rows.map((row) => row(y));
    for (let x = 0; x < width; x++, at++) {
      let r = first[x], g = r, b = r;
      if (second && jpeg.plain) [g, b] = [second[x], third[x]];
      else if (second) {
        g = clamped[r + ((greenOfBlue[second[x]] + greenOfRed[third[x]]) >> 16) + 384];
        b = clamped[r + blue[second[x]] + 384];
        r = clamped[r + red[third[x]] + 384];
      }
      if (fourth) [r, g, b] = [r, g, b].map((ink) => printed(jpeg, ink, fourth[x]));
      out[at] = 0xff000000 | (b << 16) | (g << 8) | r;
    }
  }
  return { width, height, data };
}

// The level of a colour on which its ink and black lie; Adobe stores the paper that shows through instead.
function printed(jpeg, ink, black) {
  const paper = jpeg.plain ? ink : 255 - ink; // the conversion from luma gives red for cyan
  const [a, b] = jpeg.adobe === null ? [255 - paper, 255 - black] : [paper, black];
  return Math.floor((a * b) / 255);
}

// Return a function of y that gives the row of a component at full width.
function upsampler(component, jpeg) {
  const { plane, stride } = transformed(component);
  const across = jpeg.h / component.h, down = jpeg.v / component.v, count = component.width;
  if (!Number.isInteger(across) || !Number.isInteger(down)) throw new Error("its kind is not read here");
  const line = (y) => plane.subarray(y * stride, (y + 1) * stride);
  if (across === 1 && down === 1) return line;
  const out = new Uint8Array(stride * across), sums = new Int32Array(stride);
  const smooth = across === 1 ? down === 2 : across === 2 && down <= 2 && count > 2;
  if (!smooth) {
    return (y) => {
      const near = line(Math.floor(y / down));
      for (let x = 0; x < out.length; x++) out[x] = near[Math.floor(x / across)];
      return out;
    };
  }
  return (y) => {
    if (down === 1) return widened(line(y), count, out, 1, 2, 2);
    const near = line(y >> 1), beside = line(Math.min(Math.max((y >> 1) + (y & 1 ? 1 : -1), 0), component.height - 1));
    for (let x = 0; x < count; x++) sums[x] = 3 * near[x] + beside[x];
    if (across === 2) return widened(sums, count, out, 8, 7, 4);
    for (let x = 0; x < count; x++) out[x] = (sums[x] + (y & 1 ? 2 : 1)) >> 2;
    return out;
  };
}

// Twice the width: three parts of the nearer and one of the further neighbour, with a half less or more by turns.
function widened(line, count, out, left, right, bits) {
  const last = count - 1;
  for (let x = 0; x < count; x++) {
    const middle = 3 * line[x];
    out[2 * x] = (middle + line[x ? x - 1 : 0] + left) >> bits;
    out[2 * x + 1] = (middle + line[x < last ? x + 1 : last] + right) >> bits;
  }
  return out;
}

// Return the plane of a component, with the pixels that only fill its last blocks.
function transformed(component) {
  const { columns, rows, coefficients, table } = component, stride = 8 * columns;
  const plane = new Uint8Array(stride * 8 * rows), work = new Int32Array(64);
  const scales = table.map((value, k) => {
    const scale = (SCALES[k >> 3] * SCALES[k & 7] + 8192) >> 14;
    return (value * scale + 2048) >> 12;
  });
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const at = 64 * (row * columns + column);
      for (let k = 0; k < 8; k++) {
        for (let j = k; j < 64; j += 8) work[j] = coefficients[at + j] * scales[j];
        butterfly(work, k, 8);
      }
      for (let k = 0; k < 8; k++) {
        butterfly(work, 8 * k, 1);
        const place = (8 * row + k) * stride + 8 * column;
        for (let j = 0; j < 8; j++) {
          const level = (work[8 * k + j] >> 5) + 128;
          plane[place + j] = level < 0 ? 0 : level > 255 ? 255 : level;
        }
      }
    }
  }
  return { plane, stride };
}

// The inverse cosine transform of Arai, Agui and Nakajima for eight numbers, in place, as jidctfst.c of libjpeg has it.
function butterfly(work, at, step) {
  const i1 = at + step, i2 = i1 + step, i3 = i2 + step, i4 = i3 + step, i5 = i4 + step, i6 = i5 + step, i7 = i6 + step;
  const sum04 = work[at] + work[i4], difference04 = work[at] - work[i4], sum26 = work[i2] + work[i6];
  const turned26 = (((work[i2] - work[i6]) * 362) >> 8) - sum26;
  const even0 = sum04 + sum26, even3 = sum04 - sum26, even1 = difference04 + turned26, even2 = difference04 - turned26;
  const z13 = work[i5] + work[i3], z10 = work[i5] - work[i3], z11 = work[i1] + work[i7], z12 = work[i1] - work[i7];
  const odd7 = z11 + z13, z5 = ((z10 + z12) * 473) >> 8;
  const odd6 = ((z10 * -669) >> 8) + z5 - odd7;
  const odd5 = (((z11 - z13) * 362) >> 8) - odd6;
  const odd4 = ((z12 * 277) >> 8) - z5 + odd5;
  work[at] = even0 + odd7;
  work[i7] = even0 - odd7;
  work[i1] = even1 + odd6;
  work[i6] = even1 - odd6;
  work[i2] = even2 + odd5;
  work[i5] = even2 - odd5;
  work[i4] = even3 + odd4;
  work[i3] = even3 - odd4;
}
