(() => {
  const trials = JSON.parse(document.getElementById("trials").textContent);
  const tip = document.getElementById("tip");
  let pinned = null;

  const sections = document.querySelector("nav");
  const leaveRoom = () => { document.documentElement.style.scrollPaddingTop = `${sections.offsetHeight + 8}px`; };
  leaveRoom();
  addEventListener("resize", leaveRoom);

  function point(key) {
    document.body.classList.toggle("pointing", key !== null);
    for (const element of document.querySelectorAll(".hot")) element.classList.remove("hot");
    if (key === null) { tip.style.display = "none"; return; }
    for (const element of document.querySelectorAll(`[data-trial="${CSS.escape(key)}"]`)) element.classList.add("hot");
  }
  function tell(event, key) {
    tip.textContent = trials[key] || key;
    tip.style.display = "block";
    tip.style.left = `${Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 10)}px`;
    tip.style.top = `${Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 10)}px`;
  }
  document.addEventListener("mousemove", (event) => {
    const found = event.target.closest?.("[data-trial]");
    const key = found ? found.dataset.trial : pinned;
    point(key);
    if (found) tell(event, key); else tip.style.display = "none";
  });
  document.addEventListener("click", (event) => {
    const found = event.target.closest?.("[data-trial]");
    if (found) pinned = pinned === found.dataset.trial ? null : found.dataset.trial;
    const heading = event.target.closest?.("th");
    if (heading) sort(heading);
    if (event.target.id === "theme") turn();
  });
  function sort(heading) {
    const table = heading.closest("table"), body = table.tBodies[0], column = heading.cellIndex;
    const down = heading.dataset.order !== "down";
    heading.dataset.order = down ? "down" : "up";
    const value = (row) => row.cells[column].textContent;
    const compare = (a, b) => {
      const [x, y] = [parseFloat(value(a)), parseFloat(value(b))];
      return Number.isNaN(x) || Number.isNaN(y) ? value(a).localeCompare(value(b)) : x - y;
    };
    body.append(...[...body.rows].sort((a, b) => (down ? -1 : 1) * compare(a, b)));
  }
  function turn() {
    const root = document.documentElement;
    const dark = root.classList.contains("dark") || (!root.classList.contains("light") && matchMedia("(prefers-color-scheme: dark)").matches);
    root.classList.toggle("dark", !dark);
    root.classList.toggle("light", dark);
  }
})();
