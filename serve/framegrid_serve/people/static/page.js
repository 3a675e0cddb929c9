// Puts the page together: tabs, models, limits, dropping and pasting files.

import * as api from "./api.js";
import { setUpPictures } from "./pictures.js";
import { setUpVideos } from "./videos.js";

const $ = (id) => document.getElementById(id);
const TABS = ["picture", "video"];
let limits = {};

const say = (text) => { $("status").textContent = text; };
const complain = (text) => {
  $("problem").textContent = text;
  $("problem").hidden = !text;
};
const shared = { say, complain, modelName: () => $("model").value, limits: () => limits };
const pictures = setUpPictures(shared);
const videos = setUpVideos(shared);

function choose(tab, focus = false) {
  for (const name of TABS) {
    const button = $(`tab-${name}`);
    button.setAttribute("aria-selected", String(name === tab));
    button.tabIndex = name === tab ? 0 : -1;
    $(name).hidden = name !== tab;
  }
  if (focus) $(`tab-${tab}`).focus();
  history.replaceState(null, "", tab === "video" ? "#video" : location.pathname);
}

function takeFiles(files) {
  const movies = files.filter((file) => file.type.startsWith("video/"));
  if (movies.length && limits.videos) { choose("video"); movies.forEach(videos.send); return; }
  choose("picture");
  pictures.take(files);
}

TABS.forEach((name) => { $(`tab-${name}`).onclick = () => choose(name); });
document.querySelector("[role=tablist]").onkeydown = (event) => {
  if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
  choose($("tab-video").getAttribute("aria-selected") === "true" ? "picture" : "video", true);
};
$("model").onchange = () => { if (!$("picture").hidden) pictures.again(); };

addEventListener("dragover", (event) => {
  event.preventDefault();
  document.querySelectorAll(".drop").forEach((zone) => zone.classList.add("over"));
});
const calm = () => document.querySelectorAll(".drop").forEach((zone) => zone.classList.remove("over"));
addEventListener("dragleave", (event) => { if (!event.relatedTarget) calm(); });
addEventListener("drop", (event) => {
  event.preventDefault();
  calm();
  takeFiles([...event.dataTransfer.files]);
});
addEventListener("paste", (event) => {
  const files = [...(event.clipboardData?.files ?? [])];
  if (files.length) takeFiles(files);
});

async function begin() {
  const megabytes = (bytes) => `${Math.round(bytes / 2 ** 20)} MB`;
  try {
    const [told, bounds] = await Promise.all([api.models(), api.limits()]);
    limits = bounds;
    $("model").replaceChildren(...told.models.filter((model) => model.state === "ready").map((model) => {
      const option = new Option(`${model.name} (${model.classes.length} ${model.classes.length > 1 ? "classes" : "class"})`, model.name);
      option.title = `version ${model.version}, ${model.licence}, ${model.engine} ${model.precision}`;
      option.selected = model.name === told.default;
      return option;
    }));
    const pixels = Math.round(bounds.max_pixels / 1e6);
    $("picture-limits").textContent =
      `JPEG, PNG, WebP, BMP or GIF, up to ${megabytes(bounds.max_image_bytes)} and ${pixels} megapixels`;
    $("video-limits").textContent = `MP4, MOV, MKV, WebM, AVI or TS, up to ${megabytes(bounds.max_video_bytes)}`;
    $("video-on").hidden = !bounds.videos;
    $("video-off").hidden = bounds.videos;
    if (bounds.videos) videos.begin();
  } catch (error) {
    complain(error.message);
  }
}
if (location.hash === "#video") choose("video");
begin();
