// Goes on when every application was told, or after three seconds.
const frames = [...document.querySelectorAll("iframe[data-wait]")];
const told = frames.map((f) => new Promise((done) => { f.onload = f.onerror = done; }));
const limit = new Promise((done) => setTimeout(done, 3000));
Promise.race([Promise.all(told), limit]).then(() => { location.replace(document.querySelector("a[data-next]").href); });
