// What is asked of the service, and what is said where it fails.
let key = remembered("key");
let patience = 90_000; // milliseconds; /info says better

class Failure extends Error {
  constructor(status, told = "", retryAfter = null) {
    super(told);
    Object.assign(this, { status, told, retryAfter });
  }

  sentence() {
    const wait = say("wait", secondsUntil(this.retryAfter));
    if (this.status === 0) return say("unreachable");
    if (this.status === 401) return say(key === null ? "keyAsked" : "keyWrong");
    if (this.status === 408 || this.status === 504) return say("slow");
    if (this.status === 429) return say("busy", wait);
    if (this.status === 503) return say("unavailable", this.told || 503, wait);
    return this.status >= 500 ? say("broken", this.status) : say("refused", this.status, shown(this.told));
  }
}

// Paths are relative: a proxy may serve the page below a path of its own. `signal` gives up, by an AbortError.
async function send(path, body, signal) {
  const headers = key === null ? {} : { Authorization: `Bearer ${key}` };
  if (body) headers["Content-Type"] = "application/json";
  const late = AbortSignal.timeout(patience);
  let response, answer;
  try {
    response = await fetch(path, {
      method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), cache: "no-store",
      signal: signal ? AbortSignal.any([signal, late]) : late,
    });
    answer = await response.json();
  } catch (error) {
    if (signal?.aborted) throw error;
    if (!response || response.ok) throw new Failure(late.aborted ? 504 : 0);
  }
  if (!response.ok) throw new Failure(response.status, answer?.error?.message, response.headers.get("Retry-After"));
  return answer;
}

// Retry-After is a number of seconds or a date.
function secondsUntil(retryAfter) {
  if (retryAfter === null) return null;
  const seconds = /^\d+$/.test(retryAfter) ? Number(retryAfter) : (Date.parse(retryAfter) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.max(1, Math.ceil(seconds)) : null;
}

function useKey(given) {
  key = given;
  remember("key", given);
}
