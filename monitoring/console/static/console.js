// What htmx leaves to do: the token, faults of the connection, and a log that is followed to its end.
"use strict";
(function () {
  const KEY = "marloop-token";
  const token = document.getElementById("token");
  const message = document.getElementById("message");

  if (token) {
    token.value = sessionStorage.getItem(KEY) || "";
    token.addEventListener("input", () => sessionStorage.setItem(KEY, token.value));
  }

  document.body.addEventListener("htmx:configRequest", (event) => {
    if (token && token.value) event.detail.headers["Authorization"] = "Bearer " + token.value;
  });

  // A message belongs to what was done last; those of the page's own polling stay until it succeeds.
  document.body.addEventListener("htmx:beforeRequest", (event) => {
    if (event.detail.requestConfig.verb === "post") message.replaceChildren();
  });

  function fault(sentence) {
    const paragraph = document.createElement("p");
    paragraph.className = "fault lost";
    paragraph.textContent = sentence;
    message.replaceChildren(paragraph);
  }
  document.body.addEventListener("htmx:sendError", () => fault("The monitor does not answer."));
  document.body.addEventListener("htmx:timeout", () => fault("The monitor does not answer in time."));
  document.body.addEventListener("htmx:afterRequest", (event) => {
    if (event.detail.successful) message.querySelector(".lost")?.remove();
    if (event.detail.xhr.status === 401 && token) token.focus();
  });

  // Text that is selected or scrolled back to stays where it is.
  let follows = true;
  const log = document.getElementById("log");
  if (log) {
    const atEnd = () => log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    const toEnd = () => { log.scrollTop = log.scrollHeight; };
    log.addEventListener("scroll", () => { follows = atEnd(); });
    document.body.addEventListener("htmx:oobAfterSwap", () => { if (follows) toEnd(); });
    toEnd();
  }
})();
