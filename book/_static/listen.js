// The player of "Listen to the errors". Everything it works on is in the page already (asum_lib/study/listen.py): it shows one utterance and
// one size at a time, moves a playhead over the picture and lights the spoken word while the audio plays, and seeks on a click.
document.querySelectorAll(".asum-listen").forEach((player) => {
  const form = player.querySelector("form");
  const sections = [...player.querySelectorAll("section")];

  function choose() {
    const { utterance, size } = form.elements;
    sections.forEach((section) => {
      section.hidden = section.dataset.utterance !== utterance.value;
      if (section.hidden) section.querySelector("audio").pause();
    });
    player.querySelectorAll("[data-size]").forEach((part) => (part.hidden = part.dataset.size !== size.value));
  }

  function connect(section) {
    const audio = section.querySelector("audio");
    const picture = section.querySelector(".asum-listen-picture");
    const [left, right, top, bottom, duration] = ["left", "right", "top", "bottom", "duration"].map((name) => Number(picture.dataset[name]));
    const playhead = picture.appendChild(document.createElement("div"));
    playhead.className = "asum-listen-playhead";
    playhead.style.top = `${100 * top}%`;
    playhead.style.height = `${100 * (bottom - top)}%`;

    const words = [...section.querySelectorAll("[data-start]")].map((word) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = word.textContent;
      button.title = `play from ${Number(word.dataset.start).toFixed(2)} s`;
      button.addEventListener("click", () => {
        audio.currentTime = Number(word.dataset.start);
        audio.play();
      });
      word.replaceChildren(button);
      return word;
    });

    function show() {
      const now = audio.currentTime;
      playhead.style.left = `${100 * (left + (right - left) * Math.min(1, now / duration))}%`;
      const heard = !audio.paused || now > 0;
      words.forEach((word) => word.classList.toggle("asum-now", heard && now >= Number(word.dataset.start) && now < Number(word.dataset.end)));
      if (!audio.paused) requestAnimationFrame(show);
    }

    ["play", "pause", "seeked", "ended"].forEach((event) => audio.addEventListener(event, show));
    picture.addEventListener("click", (event) => {
      const box = picture.getBoundingClientRect();
      const share = ((event.clientX - box.left) / box.width - left) / (right - left);
      audio.currentTime = duration * Math.min(1, Math.max(0, share));
    });
    show();
  }

  sections.forEach(connect);
  form.addEventListener("change", choose);
  form.hidden = false;
  choose();
});
