// JPEG to coefficients: baseline and progressive, of 8 bits. Anything else is an error, and then the
// browser's own decoder takes the file. The pixels are made by jpeg_pixels.js, to which this file hands the coefficients.
"use strict";

const ZIGZAG = [
  0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28,
  35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

// Return { width, height, components, plain, adobe }, plain where colours are stored as they are. A component has its factors h and v, its quantisation and its coefficients.
function readJpeg(data, limits) {
  const jpeg = { components: [], quantisation: [], huffman: {}, restart: 0, adobe: null, jfif: false };
  let at = 2;
  for (;;) {
    while (at < data.length && !(data[at] === 0xff && data[at + 1] > 0 && data[at + 1] < 0xff)) at++;
    const marker = data[at + 1];
    if (marker === 0xd9) break;
    if (at + 4 > data.length) throw new Error("it ends too early");
    if (marker >= 0xd0 && marker <= 0xd8) {
      at += 2;
      continue;
    }
    const end = at + 2 + (data[at + 2] << 8) + data[at + 3], part = data.subarray(at + 4, end);
    at = end;
    if (marker === 0xda) at = readScan(jpeg, part, data, end);
    else readSegment(jpeg, marker, part, limits);
  }
  if (!jpeg.components.length || !jpeg.scanned) throw new Error("it has no pixels");
  const ids = String.fromCharCode(...jpeg.components.map((component) => component.id));
  if (ids.length === 4) jpeg.plain = jpeg.adobe !== 2;
  else jpeg.plain = jpeg.jfif ? false : jpeg.adobe !== null ? jpeg.adobe === 0 : ids === "RGB";
  for (const component of jpeg.components) component.table = jpeg.quantisation[component.quantisation];
  return jpeg;
}

function readSegment(jpeg, marker, part, limits) {
  const text = (start, length) => String.fromCharCode(...part.subarray(start, start + length));
  if (marker === 0xdb) readQuantisation(jpeg, part);
  else if (marker === 0xc4) readHuffman(jpeg, part);
  else if (marker === 0xdd) jpeg.restart = (part[0] << 8) + part[1];
  else if (marker === 0xe0 && text(0, 4) === "JFIF") jpeg.jfif = true;
  else if (marker === 0xee && text(0, 5) === "Adobe") jpeg.adobe = part[11];
  else if (marker === 0xc0 || marker === 0xc1 || marker === 0xc2) readFrame(jpeg, part, marker === 0xc2, limits);
  else if (marker > 0xc2 && marker < 0xd0 && marker !== 0xc8) throw new Error("its kind is not read here");
}

function readQuantisation(jpeg, part) {
  for (let at = 0; at < part.length; ) {
    const wide = part[at] >> 4, table = new Int32Array(64);
    const number = part[at++] & 15;
    for (let k = 0; k < 64; k++) {
      table[ZIGZAG[k]] = wide ? (part[at] << 8) + part[at + 1] : part[at];
      at += wide ? 2 : 1;
    }
    jpeg.quantisation[number] = table;
  }
}

// For every 16 bits that may follow: the symbol that they begin with, and 256 times its length.
function readHuffman(jpeg, part) {
  for (let at = 0; at < part.length; ) {
    const name = part[at], table = new Uint16Array(65536);
    let symbol = at + 17, code = 0;
    for (let length = 1; length <= 16; length++) {
      for (let k = part[at + length]; k > 0; k--) {
        const step = 1 << (16 - length);
        table.fill(256 * length + part[symbol++], code, code + step);
        code += step;
      }
    }
    jpeg.huffman[name] = table;
    at = symbol;
  }
}

function readFrame(jpeg, part, progressive, limits) {
  const number = part[5];
  if (part[0] !== 8 || ![1, 3, 4].includes(number) || jpeg.components.length) throw new Error("its kind is not read here");
  jpeg.progressive = progressive;
  jpeg.height = (part[1] << 8) + part[2];
  jpeg.width = (part[3] << 8) + part[4];
  checkShape(jpeg.width, jpeg.height, limits);
  for (let at = 6; at < 6 + 3 * number; at += 3) {
    const [id, factors, quantisation] = part.subarray(at, at + 3);
    jpeg.components.push({ id, h: factors >> 4, v: factors & 15, quantisation, last: 0 });
  }
  if (number === 1) jpeg.components[0].h = jpeg.components[0].v = 1; // a factor says something beside another one only
  jpeg.h = Math.max(...jpeg.components.map(({ h }) => h));
  jpeg.v = Math.max(...jpeg.components.map(({ v }) => v));
  jpeg.columns = Math.ceil(jpeg.width / (8 * jpeg.h));
  jpeg.rows = Math.ceil(jpeg.height / (8 * jpeg.v));
  for (const component of jpeg.components) {
    if (!component.h || !component.v) throw new Error("its kind is not read here");
    component.width = Math.ceil((jpeg.width * component.h) / jpeg.h);
    component.height = Math.ceil((jpeg.height * component.v) / jpeg.v);
    component.columns = jpeg.columns * component.h; // of blocks, those that only fill the last unit included
    component.rows = jpeg.rows * component.v;
    component.coefficients = new Int16Array(64 * component.columns * component.rows);
  }
}

function readScan(jpeg, part, data, start) {
  const components = [];
  for (let k = 0; k < part[0]; k++) {
    const component = jpeg.components.find(({ id }) => id === part[1 + 2 * k]), tables = part[2 + 2 * k];
    component.dc = jpeg.huffman[tables >> 4];
    component.ac = jpeg.huffman[16 + (tables & 15)];
    components.push(component);
  }
  const [first, last, shifts] = part.subarray(1 + 2 * part[0]);
  const scan = { first, last, high: shifts >> 4, low: shifts & 15, run: 0 };
  const read = !jpeg.progressive ? readBlock : scan.first ? (scan.high ? refineAc : readAc) : scan.high ? refineDc : readDc;
  const bits = new Bits(data, start), alone = components.length === 1;
  const columns = alone ? Math.ceil(components[0].width / 8) : jpeg.columns;
  const count = columns * (alone ? Math.ceil(components[0].height / 8) : jpeg.rows);
  for (let unit = 0; unit < count; unit++) {
    if (jpeg.restart && unit && unit % jpeg.restart === 0) {
      bits.restart();
      scan.run = 0;
      for (const component of components) component.last = 0;
    }
    const row = Math.floor(unit / columns), column = unit % columns;
    for (const component of components) {
      const h = alone ? 1 : component.h, v = alone ? 1 : component.v;
      for (let y = row * v; y < (row + 1) * v; y++) {
        for (let x = column * h; x < (column + 1) * h; x++) {
          read(bits, component, component.coefficients, 64 * (y * component.columns + x), scan);
        }
      }
    }
  }
  for (const component of components) component.last = 0;
  bits.check();
  jpeg.scanned = true;
  return bits.at;
}

class Bits {
  constructor(data, at) {
    Object.assign(this, { data, at, buffer: 0, count: 0, invented: 0 });
  }

  fill() {
    while (this.count <= 24) {
      let byte = this.data[this.at];
      if (byte === 0xff && this.data[this.at + 1] === 0) this.at += 2;
      else if (byte === 0xff || byte === undefined) {
        byte = 0; // a marker, or the end: what is read from here on is none of the picture
        this.invented += 8;
      } else this.at++;
      this.buffer = (this.buffer << 8) | byte;
      this.count += 8;
    }
  }

  symbol(table) {
    if (this.count < 16) this.fill();
    const entry = table[(this.buffer >>> (this.count - 16)) & 0xffff];
    if (!entry) throw new Error("it is damaged");
    this.count -= entry >> 8;
    return entry & 255;
  }

  take(number) {
    if (this.count < number) this.fill();
    this.count -= number;
    return (this.buffer >>> this.count) & ((1 << number) - 1);
  }

  signed(number) {
    if (!number) return 0;
    const value = this.take(number);
    return value < 1 << (number - 1) ? value - (1 << number) + 1 : value;
  }

  check() {
    if (this.count < this.invented) throw new Error("it ends too early");
  }

  restart() {
    this.check();
    this.buffer = this.count = this.invented = 0;
    if (this.data[this.at] !== 0xff || (this.data[this.at + 1] & 0xf8) !== 0xd0) throw new Error("it is damaged");
    this.at += 2;
  }
}

function readBlock(bits, component, coefficients, at) {
  component.last += bits.signed(bits.symbol(component.dc));
  coefficients[at] = component.last;
  for (let k = 1; k < 64; k++) {
    const symbol = bits.symbol(component.ac), size = symbol & 15;
    if (!size && symbol !== 0xf0) return;
    k += symbol >> 4;
    if (size) coefficients[at + ZIGZAG[k & 63]] = bits.signed(size);
  }
}

function readDc(bits, component, coefficients, at, scan) {
  component.last += bits.signed(bits.symbol(component.dc));
  coefficients[at] = component.last << scan.low;
}

function refineDc(bits, component, coefficients, at, scan) {
  if (bits.take(1)) coefficients[at] |= 1 << scan.low;
}

function readAc(bits, component, coefficients, at, scan) {
  if (scan.run > 0) return void scan.run--;
  for (let k = scan.first; k <= scan.last; k++) {
    const symbol = bits.symbol(component.ac), size = symbol & 15, zeros = symbol >> 4;
    if (!size && zeros < 15) return void (scan.run = (1 << zeros) + bits.take(zeros) - 1);
    k += zeros;
    if (size) coefficients[at + ZIGZAG[k & 63]] = bits.signed(size) << scan.low;
  }
}

function refineAc(bits, component, coefficients, at, scan) {
  const refine = (place) => {
    const value = coefficients[place];
    if (bits.take(1) && !(value & (1 << scan.low))) coefficients[place] += value < 0 ? -1 << scan.low : 1 << scan.low;
  };
  let k = scan.first;
  for (; !scan.run && k <= scan.last; k++) {
    const symbol = bits.symbol(component.ac);
    let zeros = symbol >> 4, fresh = 0;
    if (symbol & 15) fresh = bits.take(1) ? 1 << scan.low : -1 << scan.low;
    else if (zeros < 15) {
      scan.run = (1 << zeros) + bits.take(zeros);
      break;
    }
    for (; k <= scan.last; k++) {
      const place = at + ZIGZAG[k];
      if (coefficients[place]) refine(place);
      else if (--zeros < 0) break;
    }
    if (fresh && k <= scan.last) coefficients[at + ZIGZAG[k]] = fresh;
  }
  if (!scan.run) return;
  for (; k <= scan.last; k++) if (coefficients[at + ZIGZAG[k]]) refine(at + ZIGZAG[k]);
  scan.run--;
}
