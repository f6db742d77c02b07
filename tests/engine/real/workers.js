const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
if (isMainThread) {
  const work = (n) => new Promise((done) => new Worker(__filename, { workerData: n }).on('message', done));
  Promise.all([1, 2, 3, 4].map(work)).then((all) => console.log(all));
} else {
  let sum = 0;
  for (let i = 0; i < workerData * 1000000; i++) sum = (sum * 33 + i) | 0;
  parentPort.postMessage(sum);
}
