const seconds = Number(document.body.dataset.refresh), patience = Number(document.body.dataset.stale);
const notice = document.getElementById("notice");
let answered = Date.now(), moved = Date.now();
const clock = moment => new Date(moment).toLocaleTimeString();
function tell(words) { notice.textContent = words; notice.hidden = !words; }
function take(next) {
  document.title = next.title;
  for (const part of next.querySelectorAll("[data-part]")) {
    const here = document.getElementById(part.id);
    const open = [...here.querySelectorAll("details[open]")].map(one => one.id);
    part.querySelectorAll("details").forEach(one => { one.open = open.includes(one.id); });
    if (part.id === "head" && here.innerHTML !== part.innerHTML) moved = Date.now();
    for (const name of ["className", "hidden", "innerHTML"]) if (here[name] !== part[name]) here[name] = part[name];
  }
}
async function look() {
  try {
    const reply = await fetch(location.href, {cache: "no-store", signal: AbortSignal.timeout(1000 * seconds)});
    if (!reply.ok) throw new Error("status " + reply.status);
    take(new DOMParser().parseFromString(await reply.text(), "text/html"));
    answered = Date.now();
    tell(answered - moved > 1000 * patience ? "▲ Stale: nothing new since " + clock(moved) + "." : "");
  } catch (error) {
    tell("▲ No answer since " + clock(answered) + " (" + error.message + "). What you see was known then.");
  }
}
if (location.protocol.startsWith("http")) setInterval(look, 1000 * seconds);
