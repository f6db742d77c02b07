// Long enough for every tier of the JIT, and once with other types so that code is thrown away again.
const mix = (a, b) => (a * 31 + b) % 1000003;
let sum = 0;
for (let i = 0; i < 20000000; i++) sum = mix(sum, i);
let text = 0;
for (let i = 0; i < 100000; i++) text = mix(text + 0.5, i);
const points = JSON.parse(JSON.stringify(Array.from({ length: 20000 }, (_, i) => ({ x: i, y: [i % 7] }))));
const later = (n) => new Promise((done) => setTimeout(() => done(n * n), n));
(async () => {
  const all = await Promise.all([3, 1, 2].map(later));
  console.log(sum, text, points.reduce((s, p) => s + p.x * p.y[0], 0), all);
  console.log([...'xaybxcy'.matchAll(/x(.)/g)].map((m) => m[1]).join());
})();
