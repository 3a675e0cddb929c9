// The video tab: upload, progress, counts, the annotated video. Which videos are yours is kept in this browser.

import { Problem, deleteVideo, uploadVideo, video, videoResult } from "./api.js";

const $ = (id) => document.getElementById(id);
const KEPT = "framegrid-videos";
const POLL_MS = 1000;
const STATES = { waiting: "waiting for its turn", running: "being analysed", done: "done", failed: "failed" };

export function setUpVideos({ say, complain, modelName }) {
  const kept = () => { try { return JSON.parse(localStorage.getItem(KEPT)) ?? []; } catch { return []; } };
  const keep = (ids) => { try { localStorage.setItem(KEPT, JSON.stringify(ids.slice(0, 20))); } catch { /* private mode */ } };

  function card(name) {
    const element = $("video-card").content.firstElementChild.cloneNode(true);
    element.querySelector("h2").textContent = name;
    return element;
  }

  const part = (element, selector) => element.querySelector(selector);
  function show(element, state, progress, detail) {
    part(element, ".state").textContent = state;
    part(element, "progress").hidden = progress === null;
    if (progress !== null) part(element, "progress").value = progress;
    part(element, ".detail").textContent = detail;
  }

  function action(element, text, what) {
    const item = document.createElement(typeof what === "string" ? "a" : "button");
    if (typeof what === "string") { item.href = what; item.setAttribute("download", ""); }
    else { item.type = "button"; item.onclick = what; }
    item.textContent = text;
    part(element, ".actions").append(item);
  }

  async function send(file) {
    complain("");
    const element = card(file.name);
    $("videos").prepend(element);
    show(element, "sending", 0, "");
    try {
      const job = await uploadVideo(file, {
        model: modelName(), fps: $("video-fps").value, line: $("video-line").value,
      }, (share) => show(element, "sending", share, `${Math.round(share * 100)} % sent`));
      keep([job.id, ...kept()]);
      follow(element, job.id);
    } catch (error) {
      element.remove();
      complain(error instanceof Problem ? error.message : `This page failed: ${error.message}`);
    }
  }

  async function follow(element, id) {
    const remove = async () => {
      await deleteVideo(id);
      keep(kept().filter((other) => other !== id));
      element.remove();
      say("Deleted");
    };
    part(element, ".actions").replaceChildren();
    action(element, "Stop and delete", remove);
    for (;;) {
      let job;
      try {
        job = await video(id);
      } catch { // away for a moment: go on asking
        await new Promise((resolve) => setTimeout(resolve, 3 * POLL_MS));
        continue;
      }
      if (job === null) { // expired, or the service was restarted
        keep(kept().filter((other) => other !== id));
        element.remove();
        return;
      }
      part(element, "h2").textContent = job.name;
      const detail = job.error ?? (job.seconds ? `${job.seconds.toFixed(1)} s of video, ${job.frames} pictures` : "");
      show(element, STATES[job.state], job.state === "done" || job.state === "failed" ? null : job.progress, detail);
      if (job.state === "done") { await finish(element, job, remove); return; }
      if (job.state === "failed") { part(element, ".actions").firstChild.textContent = "Delete"; return; }
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  async function finish(element, job, remove) {
    const base = `videos/${job.id}`;
    part(element, ".actions").replaceChildren();
    try {
      fill(element, await videoResult(job.id));
    } catch (error) {
      complain(error.message);
    }
    const player = part(element, "video");
    player.src = `${base}/annotated.mp4`;
    player.hidden = false;
    action(element, "Save video", `${base}/annotated.mp4`);
    action(element, "Save JSON", `${base}/result.json`);
    action(element, "Save CSV", `${base}/result.csv`);
    action(element, "Delete", remove);
    const hours = Math.max(1, Math.round(job.expires_in_s / 3600));
    part(element, ".detail").textContent += `; kept for ${hours} h`;
    say(`${job.name} is analysed`);
  }

  function fill(element, result) {
    const table = part(element, "table");
    const lines = Object.values(result.lines ?? {});
    table.tBodies[0].replaceChildren(...Object.entries(result.counts[""] ?? {}).map(([name, count]) => {
      const ways = ["in", "out"].map((way) => lines.length
        ? lines.reduce((sum, line) => sum + (line[name]?.[way] ?? 0), 0) : "–");
      const row = document.createElement("tr");
      const cells = [name, result.uniques?.[name] ?? "–", count.mean.toFixed(2), count.max, ...ways];
      row.append(...cells.map((text, index) => {
        const cell = document.createElement(index ? "td" : "th");
        if (!index) cell.scope = "row";
        cell.textContent = text;
        return cell;
      }));
      return row;
    }));
    table.hidden = false;
  }

  $("video-drop").onclick = () => $("video-file").click();
  $("video-file").onchange = (event) => { [...event.target.files].forEach(send); event.target.value = ""; };
  return {
    send,
    begin: () => kept().forEach((id) => {
      const element = card("…");
      $("videos").append(element);
      follow(element, id);
    }),
  };
}
