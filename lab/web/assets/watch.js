// Replaces the regions of a live page as they change; without it the page is as it was made.
"use strict";
(() => {
  const live = document.getElementById("live");
  if (!live || !window.EventSource) return;
  const note = document.getElementById("connection");
  let source = null;

  function tell(text) {
    if (note.textContent !== text) note.textContent = text;
    note.hidden = !text;
  }

  // What is focused, and how far a wide region was scrolled, stays as it is.
  function replace(regions) {
    for (const [id, html] of Object.entries(regions)) {
      const region = document.getElementById(id);
      if (!region) continue;
      const active = document.activeElement;
      const path = region.contains(active) ? active.getAttribute("href") : null;
      const scrolled = [...region.querySelectorAll(".wide")].map((wide) => wide.scrollLeft);
      region.innerHTML = html;
      region.querySelectorAll(".wide").forEach((wide, n) => { wide.scrollLeft = scrolled[n] || 0; });
      if (path) [...region.querySelectorAll("a")].find((a) => a.getAttribute("href") === path)?.focus();
    }
  }

  function listen(address) {
    stop();
    source = new EventSource(address);
    source.addEventListener("regions", (event) => { tell(""); replace(JSON.parse(event.data)); });
    source.addEventListener("moment", (event) => moved(JSON.parse(event.data)));
    source.addEventListener("end", (event) => { stop(); tell(JSON.parse(event.data)); ended(); });
    source.onerror = () => {
      if (source) tell("The connection is lost, and is tried again. Has `lab watch` ended?");
    };
  }

  function stop() {
    if (source) source.close();
    source = null;
  }

  // The controls of a replay.
  const form = document.getElementById("replay");
  const controls = form && form.elements;

  function clock(seconds) {
    const whole = Math.round(seconds);
    if (whole < 60) return `${whole} s`;
    if (whole < 3600) return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
    return `${Math.floor(whole / 3600)} h ${String(Math.floor((whole % 3600) / 60)).padStart(2, "0")} min`;
  }

  function moved(moment) {
    if (!form) return;
    if (document.activeElement !== controls.at || source) controls.at.value = moment.at;
    controls.clock.textContent = `${clock(moment.at)} of ${clock(moment.length)}`;
  }

  function ended() {
    if (form) controls.play.textContent = "Play";
  }

  function play() {
    if (!form.reportValidity()) return;
    const at = Number(controls.at.value) >= Number(controls.at.max) ? 0 : controls.at.value;
    listen(`${live.dataset.events}?pace=${controls.pace.value}&at=${at}`);
    controls.play.textContent = "Pause";
  }

  if (!form) {
    listen(live.dataset.events);
    return;
  }
  controls.play.hidden = false;
  controls.play.addEventListener("click", () => {
    if (!source) return play();
    stop();
    ended();
  });
  for (const control of [controls.pace, controls.at]) {
    control.addEventListener("change", play);
  }
  controls.at.addEventListener("input", () => {
    controls.clock.textContent = `${clock(controls.at.value)} of ${clock(controls.at.max)}`;
  });
  form.addEventListener("submit", (event) => { event.preventDefault(); play(); });
  if (!location.search) play();
})();
