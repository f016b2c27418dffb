"use strict";
(() => {
  const content = JSON.parse(document.getElementById("content").textContent);

  // Charts: the values under the pointer, read off the same numbers that the lines were drawn from.
  document.querySelectorAll("figure.chart").forEach((figure) => {
    const chart = content.charts[Number(figure.dataset.chart)];
    const svg = figure.querySelector("svg");
    const cursor = svg.querySelector(".cursor");
    const reading = figure.querySelector(".reading");
    const resting = reading.textContent;
    const number = (value) => Number(value.toPrecision(4)).toLocaleString("en-US", { maximumSignificantDigits: 4 });
    const nearest = (steps, step) => {
      let low = 0, high = steps.length - 1;
      while (high - low > 1) {
        const middle = (low + high) >> 1;
        if (steps[middle] < step) low = middle; else high = middle;
      }
      return step - steps[low] < steps[high] - step ? low : high;
    };
    const show = (event) => {
      const box = svg.getBoundingClientRect();
      const x = (event.clientX - box.left) * (chart.width / box.width);
      const share = Math.min(1, Math.max(0, (x - chart.left) / (chart.right - chart.left)));
      const step = chart.first + share * (chart.last - chart.first);
      const main = chart.lines[0];
      const shown = main.steps[nearest(main.steps, step)];
      const place = chart.left + (shown - chart.first) / (chart.last - chart.first || 1) * (chart.right - chart.left);
      cursor.setAttribute("x1", place);
      cursor.setAttribute("x2", place);
      cursor.style.visibility = "visible";
      const values = chart.lines.map((line) => number(line.values[nearest(line.steps, shown)]));
      reading.textContent = `step ${shown.toLocaleString("en-US")}: ${values.join(" · ")}`;
    };
    svg.addEventListener("pointermove", show);
    svg.addEventListener("pointerdown", show);
    svg.addEventListener("pointerleave", () => {
      cursor.style.visibility = "hidden";
      reading.textContent = resting;
    });
  });

  // The map.
  const canvas = document.querySelector(".plot canvas");
  if (!canvas) return;
  const map = content.map;
  const plot = canvas.parentElement;
  const tip = plot.querySelector(".tip");
  const pen = canvas.getContext("2d");
  const hidden = new Set();
  let spots = [], active = -1, width = 0, height = 0;

  const shapes = [
    (x, y, r) => pen.arc(x, y, r, 0, 2 * Math.PI),
    (x, y, r) => pen.rect(x - r * .88, y - r * .88, r * 1.76, r * 1.76),
    (x, y, r) => { pen.moveTo(x, y - r * 1.2); pen.lineTo(x + r * 1.1, y + r * .8); pen.lineTo(x - r * 1.1, y + r * .8); pen.closePath(); },
    (x, y, r) => { pen.moveTo(x, y - r * 1.3); pen.lineTo(x + r * 1.3, y); pen.lineTo(x, y + r * 1.3); pen.lineTo(x - r * 1.3, y); pen.closePath(); },
  ];
  const color = (label) => map.colors[label % map.colors.length];
  const shape = (label) => shapes[Math.floor(label / map.colors.length) % shapes.length];
  const kind = (number) => map.labels ? map.labels[number] : 0;

  const draw = () => {
    const scale = window.devicePixelRatio || 1;
    width = canvas.clientWidth;
    height = canvas.clientHeight;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    const radius = Math.max(2, Math.min(4.5, Math.sqrt(width * height / map.points.length) / 5));
    const low = [0, 1].map((axis) => Math.min(...map.points.map((point) => point[axis])));
    const high = [0, 1].map((axis) => Math.max(...map.points.map((point) => point[axis])));
    const margin = 16;
    const unit = Math.min((width - 2 * margin) / (high[0] - low[0] || 1), (height - 2 * margin) / (high[1] - low[1] || 1));
    spots = map.points.map((point) => [
      width / 2 + (point[0] - (low[0] + high[0]) / 2) * unit,
      height / 2 - (point[1] - (low[1] + high[1]) / 2) * unit,
    ]);
    const style = getComputedStyle(document.documentElement);
    pen.strokeStyle = style.getPropertyValue("--panel");
    pen.lineWidth = .6;
    map.order.forEach((number) => {
      if (hidden.has(kind(number))) return;
      pen.beginPath();
      shape(kind(number))(...spots[number], radius);
      pen.fillStyle = color(kind(number));
      pen.fill();
      pen.stroke();
    });
    if (active >= 0) {
      pen.beginPath();
      pen.arc(...spots[active], radius + 4, 0, 2 * Math.PI);
      pen.strokeStyle = style.getPropertyValue("--ink");
      pen.lineWidth = 2;
      pen.stroke();
    }
  };

  const describe = (number) => {
    tip.replaceChildren();
    if (map.sprite) {
      const { side, pitch, columns, rows } = map.sprite;
      const zoom = Math.max(1, Math.round(96 / side));
      const thumb = document.createElement("span");
      thumb.className = "thumb";
      thumb.style.width = thumb.style.height = `${side * zoom}px`;
      thumb.style.backgroundSize = `${columns * pitch * zoom}px ${rows * pitch * zoom}px`;
      thumb.style.backgroundPosition = `${-(number % columns) * pitch * zoom}px ${-Math.floor(number / columns) * pitch * zoom}px`;
      tip.append(thumb);
    }
    if (map.labels) {
      const name = document.createElement("b");
      name.textContent = map.names[map.labels[number]] ?? `class ${map.labels[number]}`;
      tip.append(name, document.createElement("br"));
    }
    tip.append(map.captions[number]);
  };

  const point = (event) => {
    const box = canvas.getBoundingClientRect();
    const x = event.clientX - box.left, y = event.clientY - box.top;
    let best = -1, distance = event.pointerType === "touch" ? 24 : 14;
    spots.forEach((spot, number) => {
      const away = Math.hypot(spot[0] - x, spot[1] - y);
      if (away < distance && !hidden.has(kind(number))) [best, distance] = [number, away];
    });
    if (best === active) return;
    active = best;
    draw();
    tip.style.display = best < 0 ? "none" : "block";
    if (best < 0) return;
    describe(best);
    const [left, top] = spots[best];
    tip.style.left = `${Math.max(4, left + 14 + tip.offsetWidth > width ? left - 14 - tip.offsetWidth : left + 14)}px`;
    tip.style.top = `${Math.min(Math.max(4, top - tip.offsetHeight / 2), Math.max(4, height - tip.offsetHeight - 4))}px`;
  };
  const leave = () => {
    active = -1;
    tip.style.display = "none";
    draw();
  };
  canvas.addEventListener("pointermove", point);
  canvas.addEventListener("pointerdown", point);
  canvas.addEventListener("pointerleave", (event) => { if (event.pointerType !== "touch") leave(); });

  const buttons = [...document.querySelectorAll(".legend button[data-label]")];
  const press = (button, on) => {
    button.setAttribute("aria-pressed", String(on));
    hidden[on ? "delete" : "add"](Number(button.dataset.label));
  };
  buttons.forEach((button) => button.addEventListener("click", () => {
    press(button, button.getAttribute("aria-pressed") !== "true");
    leave();
  }));
  document.querySelectorAll(".legend button.all").forEach((button) => button.addEventListener("click", () => {
    buttons.forEach((each) => press(each, button.dataset.all === "true"));
    leave();
  }));

  new ResizeObserver(draw).observe(canvas);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  draw();
})();
