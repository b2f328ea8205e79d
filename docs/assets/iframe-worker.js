/* A Worker for pages opened from the file system, where browsers refuse real ones: the script runs in a hidden frame.
   The search of the site needs it; pages from a web server keep the browser's own Worker. */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(address) {
      super();
      this.onmessage = this.onerror = null;
      this.waiting = [];
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.frame.title = "search";
      document.body.append(this.frame);
      const inside = this.frame.contentWindow;
      inside.postMessage = (data) => this.receive(new MessageEvent("message", { data: structuredClone(data) }));
      inside.importScripts = () => {
        throw new Error("this worker imports no scripts");
      };
      const script = inside.document.createElement("script");
      script.src = new URL(address, document.baseURI).href;
      script.onload = () => {
        const waiting = this.waiting;
        this.waiting = null;
        waiting.forEach((data) => this.deliver(data));
      };
      script.onerror = () => this.onerror?.(new ErrorEvent("error", { message: `cannot load ${script.src}` }));
      inside.document.body.append(script);
    }
    receive(event) {
      this.onmessage?.(event);
      this.dispatchEvent(event);
    }
    postMessage(message) {
      const data = structuredClone(message); // as between real threads: neither side sees the other's changes
      this.waiting ? this.waiting.push(data) : this.deliver(data);
    }
    deliver(data) {
      const inside = this.frame.contentWindow;
      setTimeout(() => inside?.dispatchEvent(new inside.MessageEvent("message", { data })));
    }
    terminate() {
      this.frame.remove();
    }
  };
}
