// Under 1200 px the two sidebars open by buttons. The theme binds the first button of each kind on a page, which is one that
// the book does not show, so without this the others are dead: a click on one of them is passed on to the first.
document.addEventListener("click", (event) => {
  for (const kind of [".primary-toggle", ".secondary-toggle"]) {
    const button = event.target.closest(kind);
    const bound = document.querySelector(kind);
    if (button && button !== bound) {
      event.preventDefault();
      bound.click();
    }
  }
  // An opened sidebar covers the page: whoever follows a link to a place on it wants to see that place.
  event.target.closest("dialog[open] a[href^='#']")?.closest("dialog").close();
});
