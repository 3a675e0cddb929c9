// The requests of this page. Every failure is a Problem with a sentence for a person.

export class Problem extends Error {}

async function sentence(answer) {
  let text = `The server answered ${answer.status}.`;
  try {
    text = (await answer.json()).error || text;
  } catch { /* not ours: a proxy's page */ }
  const wait = answer.headers.get("Retry-After");
  return wait ? `${text} (again in ${wait} s)` : text;
}

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server cannot be reached. Is it running, and are you online?");
  }
  if (!answer.ok) throw new Problem(await sentence(answer));
  return answer;
}

export const models = async () => (await ask("models")).json();
export const limits = async () => (await ask("limits")).json();

// Everything down to 5 % is asked for, so that the slider needs no further requests.
export const LEAST_SCORE = 0.05;

export async function predict(files, model, signal) {
  const body = new FormData();
  for (const file of files) body.append("file", file, file.name || "picture");
  const query = new URLSearchParams({ min_score: LEAST_SCORE });
  if (model) query.set("model", model);
  return (await ask(`predict?${query}`, { method: "POST", body, signal })).json();
}

// XMLHttpRequest, because fetch does not tell how much of an upload has gone.
export function uploadVideo(file, options, onProgress) {
  const query = new URLSearchParams({ name: file.name });
  for (const [key, value] of Object.entries(options)) if (value) query.set(key, value);
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", `videos?${query}`);
    request.setRequestHeader("Content-Type", file.type || "application/octet-stream");
    request.upload.onprogress = (event) => onProgress(event.loaded / Math.max(1, event.total));
    request.onerror = () => reject(new Problem("The upload was cut off. Is the connection stable?"));
    request.onload = () => {
      let answer = {};
      try { answer = JSON.parse(request.responseText); } catch { /* not ours */ }
      if (request.status === 202) resolve(answer);
      else reject(new Problem(answer.error || `The server answered ${request.status}.`));
    };
    request.send(file);
  });
}

export async function video(id) {
  const answer = await fetch(`videos/${id}`);
  if (answer.status === 404) return null;
  if (!answer.ok) throw new Problem(await sentence(answer));
  return answer.json();
}

export const videoResult = async (id) => (await ask(`videos/${id}/result.json`)).json();
export const deleteVideo = (id) => fetch(`videos/${id}`, { method: "DELETE" });
