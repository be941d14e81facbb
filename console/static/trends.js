"use strict";
/* Live trends: the server decimates, uPlot draws smallest and largest value as a band. */
(() => {
  const PACE_MS = 2000;
  const place = document.getElementById("trends");
  if (!place) return;
  const figures = [...place.querySelectorAll("figure[data-tag]")];
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const plots = new Map();
  const rem = parseFloat(style.fontSize); // on a wall everything grows with it

  const clock = (seconds) => new Date(seconds * 1000).toISOString().slice(11, seconds % 60 ? 19 : 16);
  const exactly = (seconds) => new Date(seconds * 1000).toISOString().slice(11, 19) + " UTC";

  function limits(figure) {
    return ["low", "high"].filter((side) => figure.dataset[side] !== undefined).map((side) => Number(figure.dataset[side]));
  }

  function make(figure, data) {
    const box = figure.querySelector(".plot");
    const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 0.5 }, ticks: { show: false }, font: `${0.75 * rem}px system-ui` };
    const line = { stroke: colour("--ink"), width: 0.075 * rem, points: { show: false } };
    return new uPlot({
      width: box.clientWidth, height: box.clientHeight, legend: { show: false }, tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      cursor: { drag: { x: false, y: false } },
      axes: [{ ...axis, size: 1.6 * rem, values: (_, splits) => splits.map(clock) }, { ...axis, size: 3 * rem }],
      scales: { y: { range: (_, low, high) => {
        const shown = limits(figure).filter((limit) => Math.abs(limit - (low + high) / 2) < 3 * Math.max(high - low, 1e-9));
        const [bottom, top] = [Math.min(low, ...shown), Math.max(high, ...shown)];
        const room = 0.06 * Math.max(top - bottom, 1e-6);
        return [bottom - room, top + room];
      } } },
      series: [{}, line, line],
      bands: [{ series: [2, 1], fill: colour("--fill") }],
      hooks: { draw: [(plot) => {
        for (const limit of limits(figure)) {
          const y = plot.valToPos(limit, "y", true);
          if (y < plot.bbox.top || y > plot.bbox.top + plot.bbox.height) continue;
          plot.ctx.save();
          plot.ctx.strokeStyle = colour(figure.querySelector(".bad") ? "--high" : "--muted"); // (red is for what is beyond)
          plot.ctx.setLineDash([6, 4]);
          plot.ctx.beginPath();
          plot.ctx.moveTo(plot.bbox.left, y);
          plot.ctx.lineTo(plot.bbox.left + plot.bbox.width, y);
          plot.ctx.stroke();
          plot.ctx.restore();
        }
      }] },
    }, data, box);
  }

  function show(figure, data, nowS) {
    tell(figure, data, nowS);
    const plot = plots.get(figure);
    if (plot) plot.setData(data); else plots.set(figure, make(figure, data));
  }

  /* The newest value beside its name; one that is old says of when it is. */
  function tell(figure, [times, low, high], nowS) {
    const label = figure.querySelector("[data-newest]");
    const at = low.findLastIndex((value) => value !== null);
    const value = at < 0 ? "–" : Number(((low[at] + high[at]) / 2).toPrecision(4)).toString();
    const stepS = times.length > 1 ? times[1] - times[0] : 0;
    const isOld = at >= 0 && nowS !== null && nowS - times[at] > Math.max(Number(figure.dataset.patience), 2 * stepS);
    const isOutside = at >= 0 && ((figure.dataset.high !== undefined && high[at] > Number(figure.dataset.high)) || (figure.dataset.low !== undefined && low[at] < Number(figure.dataset.low)));
    label.classList.toggle("bad", isOutside);
    const marked = isOutside ? `\u25B2 ${value}` : value;
    label.textContent = isOld ? `\u25A1 ${marked} at ${exactly(times[at])}` : marked;
  }

  function tellOfCameras(cameras) {
    for (const label of document.querySelectorAll("[data-camera]")) {
      const camera = cameras[label.dataset.camera];
      if (!camera || camera.t_s === null) continue;
      label.textContent = camera.is_silent ? `\u25A1 silent since ${exactly(camera.t_s)}` : `newest picture, ${exactly(camera.t_s)}`;
      label.classList.toggle("warn", camera.is_silent);
    }
  }

  async function refresh() {
    if (document.hidden) return;
    const query = new URLSearchParams(figures.map((figure) => ["tag", figure.dataset.tag]));
    query.set("span_s", document.querySelector('[name="span_s"]').value);
    query.set("px", String(Math.max(50, Math.round(figures[0]?.querySelector(".plot").clientWidth || 300))));
    const answer = await fetch(`/plants/${place.dataset.plant}/trends?${query}`);
    if (!answer.ok) return; // the banner says why nothing moves
    const { now_s: nowS, trends, cameras } = await answer.json();
    for (const figure of figures) show(figure, trends[figure.dataset.tag], nowS);
    tellOfCameras(cameras);
    for (const image of document.querySelectorAll("img[data-live]")) {
      const next = new Image();
      next.onload = () => { image.src = next.src; };
      next.src = `${image.src.split("?")[0]}?t=${Date.now()}`;
    }
  }

  async function loop() {
    try { await refresh(); } catch { /* away: the stream's banner says so, and we try again */ }
    setTimeout(loop, PACE_MS);
  }
  document.querySelector('[name="span_s"]').addEventListener("change", refresh);
  addEventListener("resize", () => { for (const [figure, plot] of plots) { const { clientWidth: width, clientHeight: height } = figure.querySelector(".plot"); plot.setSize({ width, height }); } });
  if (figures.length) loop();
})();
