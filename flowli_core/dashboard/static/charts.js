// Draws the charts of the overview with uPlot. The same numbers are in a table below them.
"use strict";

{
  const HEIGHT = 150;
  // Round durations, in milliseconds, between two lines of a chart.
  const STEPS = [1, 1e3, 6e4, 36e5].flatMap((unit, index) => (index === 0 ? [1, 2, 5, 10, 20, 50, 100, 200, 500] : [1, 2, 5, 10, 15, 30]).map((one) => one * unit)).concat(864e5, 6048e5);
  const plots = new Map();
  const whole = new Intl.NumberFormat(), short = new Intl.NumberFormat(undefined, { notation: "compact" });
  const hour = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });
  const day = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "numeric" });
  const clock = new Intl.DateTimeFormat(undefined, { weekday: "short", hour: "2-digit", minute: "2-digit" });

  function span(ms) {
    if (ms === null || ms === undefined) return "-";
    if (ms < 1000) return `${Math.round(ms)} ms`;
    if (ms < 60000) return `${+(ms / 1000).toFixed(1)} s`;
    return ms < 3600000 ? `${+(ms / 60000).toFixed(1)} min` : `${+(ms / 3600000).toFixed(1)} h`;
  }

  // Bars are drawn first, the last of them before those on which they stand.
  function inDrawingOrder(chart, values) {
    const isLine = (index) => chart.series[index].kind === "line";
    return chart.series.map((_, index) => index).sort((a, b) => isLine(a) - isLine(b) || b - a).map((index) => values[index]);
  }

  // Bars stand on those of the series before.
  function stacked(chart) {
    let below = chart.times.map(() => 0);
    return [chart.times, ...inDrawingOrder(chart, chart.series.map((series) => {
      if (series.kind === "line") return series.values;
      return (below = series.values.map((value, index) => value + below[index]));
    }))];
  }

  function draw(figure) {
    const chart = JSON.parse(figure.dataset.chart), box = figure.querySelector(".plot");
    const style = getComputedStyle(figure), muted = style.color, grid = { stroke: style.borderTopColor, width: 1 };
    const swatches = [...figure.querySelectorAll(".swatch")], totals = [...figure.querySelectorAll("[data-total]")];
    const caption = figure.querySelector("figcaption > b"), title = caption.textContent;
    const isTime = chart.unit === "ms", bars = uPlot.paths.bars({ size: [0.85, 40], align: 1 });
    const series = chart.series.map((one, index) => {
      const color = getComputedStyle(swatches[index]).backgroundColor, isLine = one.kind === "line";
      return {
        label: one.label, stroke: color, fill: isLine ? undefined : color, width: isLine ? 1.5 : 0, paths: isLine ? undefined : bars,
        points: { show: isLine && isTime && one.values.filter((value) => value !== null).length < 20, size: 4, fill: color }, spanGaps: true,
      };
    });
    const axis = { stroke: muted, grid, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    const state = { chart, text: figure.dataset.chart };
    state.plot = new uPlot({
      width: box.clientWidth, height: HEIGHT, legend: { show: false }, padding: [8, 20, 0, 0],
      cursor: { y: false, sync: { key: "flowli" }, drag: { x: false, y: false }, points: { size: 6 } },
      scales: {
        x: { range: () => [state.chart.times[0], state.chart.times.at(-1) + state.chart.step] },
        y: { range: (_, low, high) => [0, Math.max(high * 1.1, isTime ? 10 : 4)] },
      },
      axes: [
        { ...axis, grid: { show: false }, space: 64, size: 26, values: (_, times) => times.map((at) => (chart.step * chart.times.length <= 86400 ? hour : day).format(at * 1000)) },
        { ...axis, incrs: isTime ? STEPS : undefined, size: isTime ? 56 : 40, space: 36, values: (_, values) => values.map((one) => (isTime ? span(one) : Number.isInteger(one) ? short.format(one) : "")) },
      ],
      series: [{}, ...inDrawingOrder(chart, series)], drawOrder: ["axes", "series"],
      hooks: { setCursor: [({ cursor: { idx } }) => {
        const at = state.chart.times[idx];
        caption.textContent = idx === null || idx === undefined ? title : clock.format(at * 1000);
        totals.forEach((total, index) => {
          const value = idx === null || idx === undefined ? null : state.chart.series[index].values[idx];
          total.textContent = at === undefined ? total.dataset.total : isTime ? span(value) : whole.format(value);
        });
      }] },
    }, stacked(chart), box);
    plots.set(figure, state);
  }

  function update() {
    for (const [figure, state] of plots) {
      if (!figure.isConnected) { state.plot.destroy(); plots.delete(figure); }
      else if (figure.dataset.chart !== state.text) {
        state.text = figure.dataset.chart;
        state.chart = JSON.parse(state.text);
        state.plot.setData(stacked(state.chart));
      }
    }
    for (const figure of document.querySelectorAll("figure[data-chart]")) if (!plots.has(figure)) draw(figure);
  }

  function redraw() {
    for (const [figure, { plot }] of plots) { plot.destroy(); plots.delete(figure); }
    update();
  }

  update();
  document.addEventListener("refreshed", update);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  new ResizeObserver(() => {
    for (const [figure, { plot }] of plots) plot.setSize({ width: figure.querySelector(".plot").clientWidth, height: HEIGHT });
  }).observe(document.getElementById("main"));
}
