// The picture tab: upload, boxes on a canvas, confidence and classes without new requests.

import { LEAST_SCORE, Problem, predict } from "./api.js";

const $ = (id) => document.getElementById(id);
// Larger canvases are refused by phones; the JSON keeps the full size.
const MAX_SIDE = 2048;

// By the golden angle, so that neighbours in the model's list of classes look different.
const colourOf = (classId) => `hsl(${(150 + classId * 137.508) % 360} 85% 54%)`;

export function setUpPictures({ say, complain, modelName, limits }) {
  let answer = null; // of the server
  let shown = []; // {file, bitmap, url, image}
  let current = 0;
  let lit = -1; // index of the box that is pointed at
  let running = null;
  const off = new Set(); // classes switched off

  const least = () => Number($("score").value) / 100;
  const boxesNow = () => {
    const image = shown[current]?.image;
    return (image?.boxes ?? []).filter((box) => box.score >= least() && !off.has(box.class));
  };

  async function take(files) {
    const pictures = [...files].slice(0, limits().max_images ?? 16);
    if (!pictures.length) return;
    running?.abort();
    const mine = (running = new AbortController());
    complain("");
    shown.forEach((entry) => URL.revokeObjectURL(entry.url));
    shown = pictures.map((file) => ({ file, url: URL.createObjectURL(file), bitmap: null, image: null }));
    answer = null;
    current = 0;
    lit = -1;
    off.clear();
    $("picture-drop").hidden = true;
    $("result").hidden = false;
    $("busy").hidden = false;
    showAll();
    await Promise.all(shown.map(decode));
    draw();
    try {
      answer = await predict(pictures, modelName(), mine.signal);
      answer.images.forEach((image, index) => { shown[index].image = image; });
      const firstGood = answer.images.findIndex((image) => !image.error);
      current = Math.max(0, firstGood);
    } catch (error) {
      if (error.name === "AbortError") return;
      complain(error instanceof Problem ? error.message : `This page failed: ${error.message}`);
    }
    $("busy").hidden = true;
    showAll();
    if (answer) say(`${boxesNow().length} found in ${shown.length} picture${shown.length > 1 ? "s" : ""}`);
  }

  async function decode(entry) {
    try { // browsers turn it by EXIF, as the server does
      entry.bitmap = await createImageBitmap(entry.file, { imageOrientation: "from-image" });
    } catch { entry.bitmap = null; }
  }

  function showAll() {
    showStrip();
    showClasses();
    showBoxes();
    draw();
  }

  function showStrip() {
    $("strip").replaceChildren();
    if (shown.length < 2) return;
    shown.forEach((entry, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = entry.image?.error ? "failed" : "";
      button.setAttribute("aria-current", String(index === current));
      const picture = document.createElement("img");
      picture.src = entry.url;
      picture.alt = entry.file.name;
      button.append(picture);
      button.onclick = () => { current = index; lit = -1; showAll(); $("strip").children[index].focus(); };
      $("strip").append(button);
    });
  }

  function showClasses() {
    const counts = new Map();
    const ids = new Map();
    for (const box of shown[current]?.image?.boxes ?? []) {
      ids.set(box.class, box.class_id);
      if (box.score >= least()) counts.set(box.class, (counts.get(box.class) ?? 0) + 1);
    }
    const held = document.activeElement?.dataset?.class;
    $("classes").replaceChildren(...[...counts].sort((a, b) => b[1] - a[1]).map(([name, count]) => {
      const chip = document.createElement("button");
      chip.type = "button";
      chip.dataset.class = name;
      chip.setAttribute("aria-pressed", String(!off.has(name)));
      chip.append(dot(ids.get(name)), `${name} ${count}`);
      chip.onclick = () => { off.has(name) ? off.delete(name) : off.add(name); showAll(); };
      return chip;
    }));
    if (held) [...$("classes").children].find((chip) => chip.dataset.class === held)?.focus();
    $("nothing").hidden = !answer || counts.size > 0 || Boolean(shown[current]?.image?.error);
  }

  function showBoxes() {
    const image = shown[current]?.image;
    const boxes = boxesNow();
    $("found").textContent = image ? `Found ${boxes.length}` : "Found";
    $("boxes").replaceChildren(...boxes.map((box, index) => {
      const row = document.createElement("li");
      const button = document.createElement("button");
      button.type = "button";
      const value = document.createElement("span");
      value.className = "value";
      value.textContent = `${Math.round(box.score * 100)} %`;
      button.append(dot(box.class_id), box.class, value);
      const light = (on) => { lit = on ? index : -1; mark(); draw(); };
      button.onmouseenter = button.onfocus = () => light(true);
      button.onmouseleave = button.onblur = () => light(false);
      button.onclick = () => light(true);
      row.append(button);
      return row;
    }));
    $("notes").textContent = image?.error ?? (image?.notes ?? []).join("; ");
    const times = image?.timings_ms;
    $("facts").textContent = times
      ? `${image.width} × ${image.height} pixels, ${answer.model}, ${Math.round(times.total)} ms` +
        ` (decode ${times.decode.toFixed(1)}, queue ${times.queue.toFixed(1)}, infer ${times.infer.toFixed(1)})`
      : "";
    const counts = Object.entries(Object.groupBy?.(boxes, (box) => box.class) ?? {});
    $("canvas").setAttribute("aria-label", counts.length
      ? `The picture with ${counts.map(([name, list]) => `${list.length} ${name}`).join(", ")}`
      : "The picture");
  }

  function mark() {
    [...$("boxes").children].forEach((row, index) =>
      row.firstChild.setAttribute("aria-current", String(index === lit)));
  }

  function draw() {
    const entry = shown[current];
    if (!entry) return;
    const canvas = $("canvas");
    const pen = canvas.getContext("2d");
    const width = entry.bitmap?.width ?? entry.image?.width ?? 640;
    const height = entry.bitmap?.height ?? entry.image?.height ?? 360;
    const scale = Math.min(1, MAX_SIDE / Math.max(width, height));
    canvas.width = Math.max(1, Math.round(width * scale));
    canvas.height = Math.max(1, Math.round(height * scale));
    if (entry.bitmap) pen.drawImage(entry.bitmap, 0, 0, canvas.width, canvas.height);
    // As thick on the screen whatever the picture's size is.
    const unit = Math.max(1, canvas.width / Math.max(1, canvas.clientWidth || canvas.width));
    const boxes = boxesNow();
    boxes.map((box, index) => [box, index]).reverse().forEach(([box, index]) =>
      drawBox(pen, box, unit, lit < 0 ? 0 : index === lit ? 1 : -1));
  }

  function drawBox(pen, box, unit, emphasis) {
    const [x1, y1, x2, y2] = box.box_xyxy_relative.map((value, side) =>
      value * (side % 2 ? pen.canvas.height : pen.canvas.width));
    const colour = colourOf(box.class_id);
    pen.globalAlpha = emphasis < 0 ? 0.25 : 1;
    pen.lineWidth = unit * (emphasis > 0 ? 4 : 2.5);
    pen.strokeStyle = colour;
    pen.beginPath();
    pen.roundRect(x1, y1, x2 - x1, y2 - y1, 3 * unit);
    pen.stroke();
    if (emphasis > 0) { pen.globalAlpha = 0.2; pen.fillStyle = colour; pen.fill(); pen.globalAlpha = 1; }
    const text = `${box.class} ${Math.round(box.score * 100)} %`;
    const size = 12.5 * unit;
    pen.font = `600 ${size}px system-ui, sans-serif`;
    const textWidth = pen.measureText(text).width + 10 * unit;
    const isNarrow = x2 - x1 < textWidth * 0.6 && emphasis <= 0 && boxesNow().length > 12;
    if (!isNarrow) {
      const top = y1 - size * 1.5 >= 0 ? y1 - size * 1.5 : Math.min(y1, pen.canvas.height - size * 1.5);
      const left = Math.max(0, Math.min(x1, pen.canvas.width - textWidth));
      pen.fillStyle = colour;
      pen.beginPath();
      pen.roundRect(left, top, textWidth, size * 1.5, 3 * unit);
      pen.fill();
      pen.fillStyle = "#0b1114";
      pen.fillText(text, left + 5 * unit, top + size * 1.1);
    }
    pen.globalAlpha = 1;
  }

  function dot(classId) {
    const element = document.createElement("span");
    element.className = "dot";
    element.style.background = colourOf(classId);
    return element;
  }

  function save(blob, name) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  const stem = () => (shown[current]?.file.name || "picture").replace(/\.[^.]*$/, "");
  $("save-json").onclick = () => {
    if (!answer) return;
    const images = answer.images.map((image, index) => index === current ? { ...image, boxes: boxesNow() } : image);
    const kept = { ...answer, min_score: least(), images: shown.length > 1 ? images : [images[0]] };
    save(new Blob([JSON.stringify(kept, null, 2)], { type: "application/json" }), `${stem()}.json`);
  };
  $("save-picture").onclick = () => $("canvas").toBlob((blob) => save(blob, `${stem()}-boxes.png`));
  $("another").onclick = () => $("picture-file").click();
  $("picture-drop").onclick = () => $("picture-file").click();
  $("picture-file").onchange = (event) => { take(event.target.files); event.target.value = ""; };
  $("score").min = LEAST_SCORE * 100;
  $("score").oninput = () => {
    $("score-text").textContent = `${$("score").value} %`;
    lit = -1;
    showAll();
  };
  $("canvas").onclick = (event) => {
    const frame = $("canvas").getBoundingClientRect();
    const x = (event.clientX - frame.left) / frame.width, y = (event.clientY - frame.top) / frame.height;
    lit = boxesNow().findIndex(({ box_xyxy_relative: [x1, y1, x2, y2] }) => x1 <= x && x <= x2 && y1 <= y && y <= y2);
    mark();
    draw();
  };
  addEventListener("resize", draw);
  return { take, again: () => shown.length && take(shown.map((entry) => entry.file)) };
}
