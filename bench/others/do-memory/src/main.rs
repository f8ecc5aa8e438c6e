//! A worker of the scenario others for do-memory-storage-turso.
//! The protocol is described in others_protocol.go.

use std::collections::HashSet;
use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use do_memory_core::types::{ExecutionResult, TaskOutcome};
use do_memory_core::{Episode, ExecutionStep, MemoryConfig, SelfLearningMemory, TaskContext, TaskType};
use do_memory_storage_turso::{EpisodeQuery, TursoStorage};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

#[derive(Deserialize, Default)]
#[serde(default)]
struct Call {
    op: String,
    target: String,
    data: String,
    episodes: usize,
    callers: usize,
    window_ms: u64,
}

#[derive(Serialize, Default)]
struct Answer {
    done: f64,
    latencies_us: Vec<u64>,
    failed: usize,
    #[serde(skip_serializing_if = "String::is_empty")]
    error: String,
}

/// A line of the material.
#[derive(Deserialize)]
struct Line {
    id: Uuid,
    start: i64,
    domain: String,
    task: String,
    episode: Value,
}

#[derive(Deserialize)]
struct Known {
    ids: Vec<Uuid>,
    words: Vec<String>,
    list: usize,
}

fn text(v: &Value) -> String {
    v.as_str().unwrap_or_default().to_string()
}

impl Line {
    fn context(&self) -> TaskContext {
        TaskContext { domain: self.domain.clone(), ..Default::default() }
    }

    fn begun(&self) -> Result<Episode> {
        let mut e = Episode::new(self.task.clone(), self.context(), TaskType::Other);
        e.start_time = chrono::DateTime::from_timestamp_micros(self.start).context("start")?;
        Ok(e)
    }

    fn steps(&self) -> Vec<ExecutionStep> {
        let list = self.episode["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
        list.iter().enumerate().map(|(i, v)| {
            let mut s = ExecutionStep::new(i + 1, text(&v["tool"]), text(&v["action"]));
            s.parameters_json = v["parameters"].to_string();
            let result = text(&v["result"]["text"]);
            s.result = Some(match v["result"]["kind"].as_str() {
                Some("error") => ExecutionResult::Error { message: result },
                _ => ExecutionResult::Success { output: result },
            });
            s
        }).collect()
    }

    fn outcome(&self) -> TaskOutcome {
        let o = &self.episode["outcome"];
        match o["kind"].as_str() {
            Some("success") => TaskOutcome::Success { verdict: text(&o["verdict"]), artifacts: vec![] },
            _ => TaskOutcome::Failure { reason: text(&o["reason"]), error_details: None },
        }
    }

    fn whole(&self, id: Uuid) -> Result<Episode> {
        let mut e = self.begun()?;
        e.episode_id = id;
        e.steps = self.steps();
        e.complete(self.outcome());
        Ok(e)
    }
}

fn lines<T: DeserializeOwned>(data: &str, name: &str, most: usize) -> Result<Vec<T>> {
    let file = std::fs::File::open(Path::new(data).join(name))?;
    std::io::BufReader::new(file).lines().take(most).map(|l| Ok(serde_json::from_str(&l?)?)).collect()
}

struct Memory {
    storage: Arc<TursoStorage>,
    search: SelfLearningMemory,
    known: Known,
    put: Vec<Episode>,
    live: Vec<Line>,
    next: AtomicUsize,
}

impl Memory {
    async fn open(c: &Call) -> Result<Self> {
        std::fs::create_dir_all(&c.target)?;
        let storage = TursoStorage::new_local(Path::new(&c.target).join("memory.db")).await?;
        storage.initialize_schema().await?;
        let storage = Arc::new(storage);
        let put: Vec<Line> = lines(&c.data, "put.jsonl", usize::MAX)?;
        Ok(Memory {
            search: SelfLearningMemory::with_storage(MemoryConfig::default(), storage.clone(), storage.clone()),
            storage,
            known: serde_json::from_slice(&std::fs::read(Path::new(&c.data).join(format!("known-{}.json", c.episodes)))?)?,
            put: put.iter().map(|l| l.whole(l.id)).collect::<Result<_>>()?,
            live: lines(&c.data, "life.jsonl", usize::MAX)?,
            next: AtomicUsize::new(0),
        })
    }

    async fn fill(&self, c: &Call) -> Result<Answer> {
        let all: Vec<Line> = lines(&c.data, "fill.jsonl", c.episodes)?;
        for chunk in all.chunks(100) {
            let list = chunk.iter().map(|l| l.whole(l.id)).collect::<Result<_>>()?;
            self.storage.store_episodes_batch(list).await?;
        }
        Ok(Answer { done: all.len() as f64, ..Default::default() })
    }

    async fn run(&self, op: &str) -> Result<()> {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        match op {
            "put" => {
                let mut e = self.put[n % self.put.len()].clone();
                e.episode_id = Uuid::new_v4();
                self.storage.store_episode(&e).await?;
            }
            "life" => {
                let l = &self.live[n % self.live.len()];
                let mut e = l.begun()?;
                self.storage.store_episode(&e).await?;
                for s in l.steps() {
                    e.add_step(s);
                    self.storage.store_episode(&e).await?;
                }
                e.complete(l.outcome());
                self.storage.store_episode(&e).await?;
            }
            "get" => {
                let id = *one(&self.known.ids);
                let e = self.storage.get_episode(id).await?.with_context(|| format!("no episode {id}"))?;
                ensure!(e.episode_id == id, "asked for {id}, got {}", e.episode_id);
            }
            "list" => {
                let query = EpisodeQuery { limit: Some(self.known.list), ..Default::default() };
                let n = self.storage.query_episodes(&query).await?.len();
                ensure!(n == self.known.list, "listed {n} episodes, not {}", self.known.list);
            }
            "search" => {
                let mut words = HashSet::new();
                while words.len() < 3 {
                    words.insert(one(&self.known.words).as_str());
                }
                let words = words.into_iter().collect::<Vec<_>>().join(" ");
                let found = self.search.retrieve_relevant_context(words.clone(), self.live[0].context(), 10).await;
                ensure!(!found.is_empty(), "nothing found for {words}");
            }
            _ => anyhow::bail!("unknown operation {op}"),
        }
        Ok(())
    }
}

fn one<T>(list: &[T]) -> &T {
    &list[(Uuid::new_v4().as_u128() % list.len() as u128) as usize]
}

/// Lets so many callers do an operation until the window is over.
async fn measure(m: &Arc<Memory>, c: &Call) -> Result<Answer> {
    let end = Instant::now() + Duration::from_millis(c.window_ms);
    let callers: Vec<_> = (0..c.callers).map(|_| {
        let (m, op) = (m.clone(), c.op.clone());
        tokio::spawn(async move {
            let mut a = Answer::default();
            let mut begin = Instant::now();
            while begin < end {
                let result = m.run(&op).await;
                let now = Instant::now();
                let took = now - begin;
                match result {
                    Ok(()) => {
                        a.latencies_us.push(took.as_micros() as u64);
                        a.done += (end - begin).as_secs_f64().min(took.as_secs_f64()) / took.as_secs_f64();
                    }
                    Err(e) => {
                        a.failed += 1;
                        a.error = short(&e);
                    }
                }
                begin = now;
            }
            a
        })
    }).collect();
    let mut all = Answer::default();
    for one in callers {
        let a = one.await?;
        all.done += a.done;
        all.latencies_us.extend(a.latencies_us);
        all.failed += a.failed;
        all.error = if all.error.is_empty() { a.error } else { all.error };
    }
    Ok(all)
}

fn short(e: &anyhow::Error) -> String {
    format!("{e:#}").chars().take(300).collect()
}

async fn answer(memory: &mut Option<Arc<Memory>>, c: &Call) -> Result<Answer> {
    if c.op == "open" {
        *memory = Some(Arc::new(Memory::open(c).await?));
        return Ok(Answer::default());
    }
    let m = memory.as_ref().context("not open")?;
    match c.op.as_str() {
        "fill" => m.fill(c).await,
        "close" => Ok(Answer::default()),
        _ => measure(m, c).await,
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut memory = None;
    for line in std::io::stdin().lock().lines() {
        let c: Call = serde_json::from_str(&line?)?;
        let a = answer(&mut memory, &c).await.unwrap_or_else(|e| Answer { failed: 1, error: short(&e), ..Default::default() });
        println!("{}", serde_json::to_string(&a)?);
        std::io::stdout().flush()?;
        if c.op == "close" {
            break;
        }
    }
    Ok(())
}
