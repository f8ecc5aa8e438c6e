// A worker of the scenario others for packages of npm: worker.mjs ADAPTER.
// The protocol is described in others_protocol.go.
import { randomUUID } from 'node:crypto';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const lines = path => readFileSync(path, 'utf8').trimEnd().split('\n').map(l => JSON.parse(l));
const pick = list => list[Math.floor(Math.random() * list.length)];
const three = list => {
  const chosen = new Set();
  while (chosen.size < 3) chosen.add(pick(list));
  return [...chosen];
};
const must = (ok, what) => { if (!ok) throw new Error(what); };

// An embedding that needs no model: words by their hashes, and the sum at length 1.
const dimensions = 384;
function embed(text) {
  const v = new Array(dimensions).fill(0);
  for (const word of text.toLowerCase().match(/[a-z0-9]+/g) ?? []) {
    let h = 2166136261;
    for (let i = 0; i < word.length; i++) h = Math.imul(h ^ word.charCodeAt(i), 16777619);
    v[(h >>> 1) % dimensions] += h & 1 ? 1 : -1;
  }
  const length = Math.hypot(...v) || 1;
  return v.map(x => x / length);
}
const textOf = e => [e.task, e.words, e.out].join('\n');

// The same tables as those of the bare driver, where the engine has FTS5.
const rows = [
  `CREATE TABLE IF NOT EXISTS docs(seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, start INTEGER NOT NULL, domain TEXT NOT NULL, outcome TEXT NOT NULL,
   task TEXT NOT NULL, words TEXT NOT NULL, out TEXT NOT NULL, json TEXT NOT NULL)`,
  'CREATE INDEX IF NOT EXISTS docs_by_start ON docs(start)',
];
const fts5 = [
  `CREATE VIRTUAL TABLE IF NOT EXISTS docs_fts USING fts5(task, words, out, content = 'docs', content_rowid = 'seq', tokenize = 'porter unicode61')`,
  `CREATE TRIGGER IF NOT EXISTS docs_inserted AFTER INSERT ON docs BEGIN
   INSERT INTO docs_fts(rowid, task, words, out) VALUES (new.seq, new.task, new.words, new.out);
   END`,
  `CREATE TRIGGER IF NOT EXISTS docs_updated AFTER UPDATE ON docs BEGIN
   INSERT INTO docs_fts(docs_fts, rowid, task, words, out) VALUES ('delete', old.seq, old.task, old.words, old.out);
   INSERT INTO docs_fts(rowid, task, words, out) VALUES (new.seq, new.task, new.words, new.out);
   END`,
];
const matchFTS5 = {
  sql: `SELECT d.json FROM docs_fts f JOIN docs d ON d.seq = f.rowid WHERE docs_fts MATCH ? ORDER BY f.rank LIMIT 10`,
  args: words => [words.map(w => `"${w}"`).join(' OR ')],
};

// sqlMemory keeps an episode as one JSON text. run and all take a statement and its
// arguments, batch a list of statements for one transaction.
function sqlMemory({ run, all, batch, close, match = matchFTS5 }) {
  const insert = 'INSERT INTO docs(id, start, domain, outcome, task, words, out, json) VALUES(?, ?, ?, ?, ?, ?, ?, ?)';
  const update = 'UPDATE docs SET outcome = ?, words = ?, out = ?, json = ? WHERE id = ?';
  const values = (e, id) => [id, e.start, e.domain, e.outcome, e.task, e.words, e.out, JSON.stringify({ ...e.episode, id })];
  return {
    add: list => batch(list.map(e => ({ sql: insert, args: values(e, e.id) }))),
    put: e => run(insert, values(e, randomUUID())),
    async life(e) {
      const id = randomUUID(), { steps, outcome, end, reward, reflection, ...begun } = e.episode;
      const doc = { ...begun, id, steps: [] };
      await run(insert, [id, e.start, e.domain, '', e.task, '', '', JSON.stringify(doc)]);
      let words = '';
      for (const s of steps) {
        doc.steps.push(s);
        words += `${s.tool} ${s.action}\n`;
        await run(update, ['', words, '', JSON.stringify(doc), id]);
      }
      await run(update, [e.outcome, words, e.out, JSON.stringify({ ...doc, outcome, end, reward, reflection }), id]);
    },
    async get(id) {
      const found = await all('SELECT json FROM docs WHERE id = ?', [id]);
      must(found.length === 1 && JSON.parse(found[0].json).id === id, `no episode ${id}`);
    },
    async list(n) {
      const found = await all('SELECT json FROM docs ORDER BY start DESC LIMIT ?', [n]);
      must(found.map(r => JSON.parse(r.json)).length === n, `listed ${found.length} episodes, not ${n}`);
    },
    async search(words) {
      const found = await all(match.sql, match.args(words));
      must(found.map(r => JSON.parse(r.json)).length > 0, `nothing found for ${words}`);
    },
    close,
  };
}

// pooled lends out what make returns, to one user each, and makes so many at most.
function pooled(most, make) {
  const idle = [], waiting = [];
  let made = 0;
  return async use => {
    const one = idle.pop() ?? (made < most ? (made++, await make()) : await new Promise(r => waiting.push(r)));
    try {
      return await use(one);
    } finally {
      const next = waiting.shift();
      next ? next(one) : idle.push(one);
    }
  };
}

const adapters = {
  async libsql(target) {
    const { createClient } = await import('@libsql/client');
    const server = target.startsWith('http');
    const client = createClient({ url: server ? target : 'file:' + join(target, 'memory.db') });
    if (!server) await client.execute('PRAGMA journal_mode = WAL');
    for (const sql of [...rows, ...fts5]) await client.execute(sql);
    return sqlMemory({
      run: (sql, args) => client.execute({ sql, args }),
      all: async (sql, args) => (await client.execute({ sql, args })).rows,
      batch: list => client.batch(list, 'write'),
      close: () => client.close(),
    });
  },

  async serverless(target) {
    const { connect } = await import('@tursodatabase/serverless');
    const on = pooled(8, () => connect({ url: target })); // a connection runs one statement at a time
    for (const sql of [...rows, ...fts5]) await on(c => c.exec(sql));
    return sqlMemory({
      run: (sql, args) => on(c => c.run(sql, ...args)),
      all: (sql, args) => on(c => c.all(sql, ...args)),
      batch: list => on(c => c.batch(list, 'immediate')),
      close() {},
    });
  },

  async turso(target) {
    const { connect } = await import('@tursodatabase/database');
    const db = await connect(join(target, 'memory.db'), { timeout: 10000 });
    for (const sql of rows) await db.exec(sql);
    const prepared = new Map();
    const statement = async sql => prepared.get(sql) ?? prepared.set(sql, await db.prepare(sql)).get(sql);
    const on = pooled(1, () => db); // and so does this one
    return sqlMemory({
      run: (sql, args) => on(async () => (await statement(sql)).run(...args)),
      all: (sql, args) => on(async () => (await statement(sql)).all(...args)),
      batch: list => on(async () => {
        await db.exec('BEGIN IMMEDIATE');
        for (const { sql, args } of list) await (await statement(sql)).run(...args);
        await db.exec('COMMIT');
      }),
      match: { // its full-text index is an experiment, and takes 80 times as long to fill
        sql: `SELECT json FROM docs WHERE task || words || out LIKE ? OR task || words || out LIKE ? OR task || words || out LIKE ? LIMIT 10`,
        args: words => words.map(w => `%${w}%`),
      },
      close: () => db.close(),
    });
  },

  // An episode is a thread, a step a message of it, and a vector of its text is what it is found by.
  async mastra(target) {
    const { LibSQLStore, LibSQLVector } = await import('@mastra/libsql');
    const store = new LibSQLStore({ id: 'memory', url: 'file:' + join(target, 'memory.db') });
    await store.init();
    const memory = await store.getStore('memory');
    const vectors = new LibSQLVector({ id: 'vectors', url: 'file:' + join(target, 'vectors.db') });
    const indexName = 'episodes', resourceId = 'agent';
    await vectors.createIndex({ indexName, dimension: dimensions, metric: 'cosine' });
    const at = (e, later = 0) => new Date(e.start / 1000 + later);
    const thread = (e, id, metadata) => ({ id, resourceId, title: e.task.slice(0, 100), createdAt: at(e), updatedAt: at(e), metadata });
    const message = (e, id, step, k) => ({
      id: randomUUID(), threadId: id, resourceId, role: 'assistant', type: 'v2', createdAt: at(e, k),
      content: { format: 2, parts: [{ type: 'text', text: JSON.stringify(step) }] },
    });
    const messages = (e, id) => (e.episode.steps ?? []).map((s, k) => message(e, id, s, k));
    const head = ({ steps, ...rest }) => rest;
    const index = list => vectors.upsert({
      indexName, ids: list.map(([, id]) => id), vectors: list.map(([e]) => embed(textOf(e))), metadata: list.map(([, id]) => ({ thread_id: id })),
    });
    return {
      async add(list) {
        for (const e of list) await memory.saveThread({ thread: thread(e, e.id, head(e.episode)) });
        await memory.saveMessages({ messages: list.flatMap(e => messages(e, e.id)) });
        await index(list.map(e => [e, e.id]));
      },
      async put(e) {
        const id = randomUUID();
        await memory.saveThread({ thread: thread(e, id, head(e.episode)) });
        const list = messages(e, id);
        if (list.length) await memory.saveMessages({ messages: list });
        await index([[e, id]]);
      },
      async life(e) {
        const id = randomUUID();
        await memory.saveThread({ thread: thread(e, id, {}) });
        for (const m of messages(e, id)) await memory.saveMessages({ messages: [m] });
        await memory.updateThread({ id, title: e.task.slice(0, 100), metadata: head(e.episode) });
        await index([[e, id]]);
      },
      async get(id) {
        const t = await memory.getThreadById({ threadId: id });
        must(t?.id === id, `no thread ${id}`);
        const { messages } = await memory.listMessages({ threadId: id, perPage: false });
        messages.forEach(m => JSON.parse(m.content.parts[0].text));
      },
      async list(n) {
        const { threads } = await memory.listThreads({ filter: { resourceId }, perPage: n, page: 0, orderBy: { field: 'createdAt', direction: 'DESC' } });
        must(threads.length === n, `listed ${threads.length} threads, not ${n}`);
      },
      async search(words) {
        const found = await vectors.query({ indexName, queryVector: embed(words.join(' ')), topK: 10 });
        must(found.length > 0, `nothing found for ${words}`);
      },
      close() {},
    };
  },
};

let memory, known, putPool, livePool, next = 0;

const operations = {
  put: () => memory.put(putPool[next++ % putPool.length]),
  life: () => memory.life(livePool[next++ % livePool.length]),
  get: () => memory.get(pick(known.ids)),
  list: () => memory.list(known.list),
  search: () => memory.search(three(known.words)),
};

// measure lets so many callers do an operation until the window is over.
async function measure(f, callers, window) {
  const answer = { done: 0, latencies_us: [], failed: 0 };
  const end = performance.now() + window;
  await Promise.all(Array.from({ length: callers }, async () => {
    for (let begin = performance.now(); begin < end;) {
      let failure;
      try { await f(); } catch (e) { failure = e; }
      const now = performance.now();
      if (failure) {
        answer.failed++;
        answer.error ??= String(failure.message ?? failure).slice(0, 300);
      } else {
        answer.latencies_us.push(Math.round(1000 * (now - begin)));
        answer.done += Math.min(1, (end - begin) / (now - begin));
      }
      begin = now;
    }
  }));
  return answer;
}

async function answer(call) {
  switch (call.op) {
    case 'open':
      if (!call.target.startsWith('http')) mkdirSync(call.target, { recursive: true });
      memory = await adapters[process.argv[2]](call.target);
      known = JSON.parse(readFileSync(join(call.data, `known-${call.episodes}.json`)));
      [putPool, livePool] = ['put', 'life'].map(name => lines(join(call.data, name + '.jsonl')));
      return {};
    case 'fill': {
      const all = lines(join(call.data, 'fill.jsonl')).slice(0, call.episodes);
      for (let i = 0; i < all.length; i += 100) await memory.add(all.slice(i, i + 100));
      return { done: all.length };
    }
    case 'close':
      await memory.close();
      return {};
    default:
      return measure(operations[call.op], call.callers, call.window_ms);
  }
}

console.log = console.info = console.error; // the standard output is for answers
for await (const line of createInterface({ input: process.stdin })) {
  const call = JSON.parse(line);
  const result = await answer(call).catch(e => ({ failed: 1, error: String(e.message ?? e).slice(0, 300) }));
  process.stdout.write(JSON.stringify(result) + '\n', () => { if (call.op === 'close') process.exit(0); });
}
