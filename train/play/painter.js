const part = name => element.querySelector(`[data-part=${name}]`);
const canvas = part("canvas"), context = canvas.getContext("2d", {willReadFrequently: true});
const size = canvas.width = canvas.height = props.size;
const picture = new Image();
let hole = new Uint8Array(size * size), object = null, past = [], cross = [size >> 1, size >> 1], start = null, before = null;

const tool = () => element.querySelector("input[name=tool]:checked").value;
const clamp = value => Math.min(size - 1, Math.max(0, value));
const say = text => part("status").textContent = text;
const pictureUrl = map => {
  const made = document.createElement("canvas"), pixels = new ImageData(size, size);
  made.width = made.height = size;
  map.forEach((inside, i) => pixels.data.set(inside ? [255, 255, 255, 255] : [0, 0, 0, 255], 4 * i));
  made.getContext("2d").putImageData(pixels, 0, 0);
  return made.toDataURL("image/png");
};

function draw() {
  context.drawImage(picture, 0, 0, size, size);
  const pixels = context.getImageData(0, 0, size, size);
  hole.forEach((inside, i) => {
    if (inside) pixels.data.set(((i % size) + Math.floor(i / size)) % 8 < 4 ? [20, 20, 24, 255] : [96, 96, 108, 255], 4 * i);
  });
  context.putImageData(pixels, 0, 0);
  if (document.activeElement !== canvas && !start) return;
  for (const [width, colour] of [[3, "#000"], [1, "#fff"]]) {
    context.lineWidth = width * size / 224;
    context.strokeStyle = colour;
    context.beginPath();
    for (const [x, y] of [[1, 0], [0, 1]]) {
      context.moveTo(cross[0] + .5 - 6 * x, cross[1] + .5 - 6 * y);
      context.lineTo(cross[0] + .5 + 6 * x, cross[1] + .5 + 6 * y);
    }
    if (start && tool() === "rectangle")
      context.rect(...[0, 1].map(i => Math.min(start[i], cross[i])), ...[0, 1].map(i => Math.abs(start[i] - cross[i]) + 1));
    context.stroke();
  }
}

function report() {
  const hidden = hole.reduce((sum, inside) => sum + inside, 0);
  say(hidden ? `${(100 * hidden / hole.length).toFixed(1)} % of the picture is hidden.` : "Nothing is hidden yet: paint a hole.");
}

function changed() {  // `before` holds the hole as it was
  past.push(before);
  past = past.slice(-50);
  send();
}

function send() {
  draw();
  report();
  trigger("painted", {hole: pictureUrl(hole)});
}

function brush([fromX, fromY], [toX, toY]) {
  const radius = Number(part("radius").value) * size / 224, steps = Math.max(1, Math.hypot(toX - fromX, toY - fromY));
  for (let step = 0; step <= steps; step++) {
    const x = fromX + (toX - fromX) * step / steps, y = fromY + (toY - fromY) * step / steps;
    for (let row = clamp(Math.ceil(y - radius)); row <= clamp(Math.floor(y + radius)); row++)
      for (let column = clamp(Math.ceil(x - radius)); column <= clamp(Math.floor(x + radius)); column++)
        if (Math.hypot(column - x, row - y) <= radius) hole[row * size + column] = 1;
  }
}

function rectangle(one, other) {
  for (let row = Math.min(one[1], other[1]); row <= Math.max(one[1], other[1]); row++)
    hole.fill(1, row * size + Math.min(one[0], other[0]), row * size + Math.max(one[0], other[0]) + 1);
}

function moved(map, right, down) {
  return map.map((_, i) => {
    const x = i % size - right, y = Math.floor(i / size) - down;
    return x >= 0 && y >= 0 && x < size && y < size ? map[y * size + x] : 0;
  });
}

function cut([x, y]) {
  if (!object) return say("The outline of this picture's object is not known; use the brush or the rectangle.");
  if (!object[y * size + x]) return say("There is no object at this place; click on it.");
  hole = hole.map((inside, i) => inside | object[i]);
  changed();
}

const place = event => {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height]
    .map(fraction => clamp(Math.floor(fraction * size)));
};
canvas.addEventListener("pointerdown", event => {
  canvas.setPointerCapture(event.pointerId);
  before = hole.slice();
  cross = place(event);
  if (tool() === "object") return cut(cross);
  start = cross;
  if (tool() === "brush") brush(cross, cross);
  draw();
});
canvas.addEventListener("pointermove", event => {
  if (!start || !event.buttons) return;
  const now = place(event);
  if (tool() === "brush") brush(cross, now);
  if (tool() === "move") hole = moved(before, now[0] - start[0], now[1] - start[1]);
  cross = now;
  draw();
});
canvas.addEventListener("pointerup", () => {
  if (!start) return;
  if (tool() === "rectangle") rectangle(start, cross);
  start = null;
  changed();
});
canvas.addEventListener("pointercancel", () => { hole = before; start = null; draw(); });
canvas.addEventListener("keydown", event => {
  const step = event.shiftKey ? 16 : 4;
  const by = {ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step]}[event.key];
  if (by) {
    event.preventDefault();
    if (tool() === "move") {
      before = hole;
      hole = moved(hole, ...by);
      return changed();
    }
    cross = cross.map((at, i) => clamp(at + by[i]));
    draw();
  } else if (event.key === " " || event.key === "Enter") {
    event.preventDefault();
    before = hole.slice();
    if (tool() === "object") return cut(cross);
    if (tool() === "rectangle" && !start) { start = cross; return draw(); }
    if (tool() === "brush") brush(cross, cross);
    if (tool() === "rectangle") rectangle(start, cross);
    start = null;
    if (tool() !== "move") changed();
  } else if (event.key === "Escape") { start = null; draw(); }
});
canvas.addEventListener("focus", draw);
canvas.addEventListener("blur", () => { start = null; draw(); });
part("undo").addEventListener("click", () => { if (past.length) { hole = past.pop(); send(); } });
part("clear").addEventListener("click", () => { before = hole; hole = new Uint8Array(size * size); changed(); });
part("save").addEventListener("click", async () => {
  if (!props.value.file) return say("This picture is no file, so a mask of it would fit none; use a picture of yours.");
  const [height, width] = props.value.file, side = Math.min(height, width) * props.value.shown;
  const painted = new Image(), made = document.createElement("canvas"), link = document.createElement("a");
  painted.src = pictureUrl(hole);
  await painted.decode();
  Object.assign(made, {width, height});
  const at = made.getContext("2d");
  at.imageSmoothingEnabled = false;
  at.fillRect(0, 0, width, height);
  at.drawImage(painted, (width - side) / 2, (height - side) / 2, side, side);
  Object.assign(link, {href: made.toDataURL("image/png"), download: `${props.value.name}.png`});
  link.click();
});

props.pictures.forEach(({name, thumbnail}, index) => {
  const button = document.createElement("button"), image = document.createElement("img");
  Object.assign(image, {src: thumbnail, alt: name});
  Object.assign(button, {type: "button", title: name});
  button.append(image);
  button.addEventListener("click", () => trigger("chosen", {index}));
  part("pictures").append(button);
});

function take() {
  if (!props.value) return;
  [...part("pictures").children].forEach((each, i) => each.setAttribute("aria-pressed", i === props.value.index));
  canvas.setAttribute("aria-label", `The picture ${props.value.name}, to paint a hole into`);
  object = null;
  picture.onload = draw;
  picture.src = props.value.picture;
  if (props.value.object) {
    const outline = new Image();
    outline.onload = () => {
      const made = document.createElement("canvas");
      made.width = made.height = size;
      const at = made.getContext("2d");
      at.drawImage(outline, 0, 0);
      object = new Uint8Array(size * size);
      at.getImageData(0, 0, size, size).data.forEach((value, i) => { if (i % 4 === 0 && value) object[i / 4] = 1; });
    };
    outline.src = props.value.object;
  }
}
watch("value", take);
take();
report();
