// Browsers refuse web workers to pages that are opened from a folder, and the search runs in one. There, a hidden frame
// takes its place. As with a worker, a message is a copy, and arrives only after the sender has gone on.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(script) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.append(this.frame);
      this.inside = this.frame.contentWindow;
      this.inside.postMessage = (given) => {
        const data = structuredClone(given);
        setTimeout(() => this.receive(new MessageEvent("message", { data })));
      };
      this.loaded = new Promise((resolve) => {
        const element = this.frame.contentDocument.createElement("script");
        element.src = new URL(script, document.baseURI);
        element.onload = resolve;
        this.frame.contentDocument.head.append(element);
      });
    }

    receive(event) {
      this.dispatchEvent(event);
      this.onmessage?.(event);
    }

    postMessage(given) {
      const data = this.inside.structuredClone(given);
      this.loaded.then(() => this.inside.dispatchEvent(new this.inside.MessageEvent("message", { data })));
    }

    terminate() {
      this.frame.remove();
    }
  };
}
