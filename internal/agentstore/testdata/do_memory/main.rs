//! Makes memory.db and backup.json, the sample that the tests of this package read: every kind of
//! row that do-memory-storage-turso 0.1.47 writes.

use chrono::{DateTime, Duration, TimeZone, Utc};
use do_memory_core::embeddings::{EMBEDDING_STORAGE_SCHEMA_VERSION, EmbeddingStorageBackend, EmbeddingStorageScope};
use do_memory_core::episode::{ApplicationOutcome, EpisodePatternRelationship, EpisodeRelationship, RelationshipMetadata, RelationshipType};
use do_memory_core::memory::attribution::{RecommendationFeedback, RecommendationSession};
use do_memory_core::memory::checkpoint::CheckpointMeta;
use do_memory_core::memory::playbook::PlaybookStep;
use do_memory_core::patterns::{Heuristic, Pattern, PatternEffectiveness};
use do_memory_core::pre_storage::SalientFeatures;
use do_memory_core::procedural::ProceduralMemory;
use do_memory_core::semantic::EpisodeSummary;
use do_memory_core::types::{ComplexityLevel, Evidence, OutcomeStats};
use do_memory_core::{
    AgentType, Episode, ExecutionResult, ExecutionStep, Reflection, RewardScore, TaskContext, TaskOutcome, TaskType,
};
use do_memory_storage_turso::TursoStorage;
use uuid::Uuid;

fn id(n: u128) -> Uuid {
    Uuid::from_u128(0x0190_0000_0000_4000_8000_0000_0000_0000 + n)
}
fn at(secs: i64) -> DateTime<Utc> {
    Utc.timestamp_opt(1_760_000_000 + secs, 123_456_789).unwrap()
}
fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|s| s.to_string()).collect()
}
fn context() -> TaskContext {
    TaskContext {
        language: Some("rust".into()),
        framework: Some("tokio".into()),
        complexity: ComplexityLevel::Complex,
        domain: "web-api".into(),
        tags: texts(&["async", "größe"]),
    }
}
fn episode(n: u128, task: &str, kind: TaskType, context: TaskContext) -> Episode {
    let mut e = Episode::new(task.into(), context, kind);
    e.episode_id = id(n);
    e.start_time = at(n as i64 * 100);
    e
}
fn step(n: usize, tool: &str, action: &str, result: Option<ExecutionResult>) -> ExecutionStep {
    let mut s = ExecutionStep::new(n, tool.into(), action.into());
    s.timestamp = at(n as i64);
    s.result = result;
    s
}
fn effectiveness() -> PatternEffectiveness {
    PatternEffectiveness {
        times_retrieved: 9,
        times_applied: 4,
        success_when_applied: 3,
        failure_when_applied: 1,
        avg_reward_delta: 0.25,
        last_used: at(7),
        created_at: at(5),
    }
}
fn vector(n: usize, dimension: usize) -> Vec<f32> {
    (0..dimension).map(|i| ((i * 7 + n * 3) % 16) as f32 / 16.0 - 0.5).collect()
}

fn episodes() -> Vec<Episode> {
    let mut list = vec![];

    // 1: everything that an episode can have.
    let mut e = episode(1, "Fix the \"deadlock\" in the pool\nsecond line, naïve 日本語 🦀", TaskType::Debugging, context());
    e.add_tag("Bug-Fix".into()).unwrap();
    e.add_tag("urgent".into()).unwrap();
    e.metadata.insert("agent".into(), "coder".into());
    e.metadata.insert("summary".into(), "of its own".into());
    let mut s = step(1, "bash", "run the tests", Some(ExecutionResult::Success { output: "ok\n2 passed".into() }));
    s.set_parameters(serde_json::json!({"command": "cargo test -- \"a b\"", "n": 1.5}));
    s.latency_ms = 1234;
    s.tokens_used = Some(77);
    s.metadata.insert("cwd".into(), "/w/pool".into());
    e.add_step(s);
    e.add_step(step(2, "edit", "", Some(ExecutionResult::Error { message: "E0382: borrow of moved value".into() })));
    e.add_step(step(3, "bash", "wait", Some(ExecutionResult::Timeout)));
    e.add_step(step(7, "", "thought about it", None));
    let mut s = step(5, "", "", None);
    s.parameters_json = "not JSON".into();
    e.add_step(s);
    e.end_time = Some(at(160));
    e.outcome = Some(TaskOutcome::Success { verdict: "all green".into(), artifacts: texts(&["src/pool.rs", "tests/pool.rs"]) });
    e.reward = Some(RewardScore {
        total: 0.9,
        base: 1.0,
        efficiency: 0.85,
        complexity_bonus: 1.2,
        quality_multiplier: 0.95,
        learning_bonus: 0.1,
        abstention_score: 0.0,
        raw_reward: 0.97,
        normalized_reward: 0.5,
        decayed_reward: 0.45,
        effective_reward: 0.44,
    });
    e.reflection = Some(Reflection {
        successes: texts(&["reproduced it first"]),
        improvements: texts(&["log the lock order"]),
        insights: texts(&["two locks, one order", ""]),
        generated_at: at(170),
    });
    e.patterns = vec![id(101), id(103)];
    e.heuristics = vec![id(201)];
    e.record_pattern_application(id(101), 2, ApplicationOutcome::Helped, Some("saved a step".into()));
    e.record_pattern_application(id(102), 0, ApplicationOutcome::NoEffect, None);
    e.salient_features = Some(SalientFeatures { critical_decisions: texts(&["lock order"]), ..SalientFeatures::new() });
    let mut c = CheckpointMeta::new(id(1), "hand over".into(), 2, Some("a note".into()), None);
    c.checkpoint_id = id(901);
    c.timestamp = at(120);
    e.checkpoints.push(c);
    list.push(e);

    // 2 to 5: the other outcomes, and one that runs.
    let mut e = episode(2, "Migrate the schema", TaskType::CodeGeneration, TaskContext::default());
    e.add_step(step(1, "sql", "alter table", Some(ExecutionResult::Success { output: String::new() })));
    e.end_time = Some(at(260));
    e.outcome = Some(TaskOutcome::PartialSuccess { verdict: "half of it".into(), completed: texts(&["users"]), failed: texts(&["orders"]) });
    e.patterns = vec![id(101)];
    list.push(e);
    let mut e = episode(3, "Publish the crate", TaskType::Other, TaskContext { language: None, complexity: ComplexityLevel::Simple, ..context() });
    e.end_time = Some(at(360));
    e.outcome = Some(TaskOutcome::Failure { reason: "no token".into(), error_details: Some("401 Unauthorized".into()) });
    list.push(e);
    let mut e = episode(4, "Prove P = NP", TaskType::Analysis, TaskContext::default());
    e.end_time = Some(at(460));
    e.outcome = Some(TaskOutcome::Abstained { reason: "infeasible".into(), stopped_at_step: 2, infeasibility_signals: texts(&["no known method"]) });
    list.push(e);
    let mut e = episode(5, "Watch the build", TaskType::Testing, TaskContext::default());
    e.add_step(step(1, "watch", "look", None));
    list.push(e);

    // 6: empty in every field.
    let mut e = episode(6, "", TaskType::Documentation, TaskContext { domain: String::new(), ..TaskContext::default() });
    e.end_time = Some(at(660));
    e.outcome = Some(TaskOutcome::Failure { reason: String::new(), error_details: None });
    e.reflection = Some(Reflection { successes: vec![], improvements: vec![], insights: vec![], generated_at: at(670) });
    list.push(e);

    // 7: large texts.
    let mut e = episode(7, &"long task ".repeat(500), TaskType::Refactoring, context());
    for n in 1..=20 {
        let mut s = step(n, "read_file", "read", Some(ExecutionResult::Success { output: "0123456789abcdef\n".repeat(1000) }));
        s.set_parameters(serde_json::json!({"path": format!("/src/{n}.rs")}));
        e.add_step(s);
    }
    list.push(e);

    // 8 and 9 are stored as a batch, which writes NULL where the others have the JSON null.
    for n in 8..=9 {
        let mut e = episode(n, "Stored in a batch", TaskType::Testing, TaskContext::default());
        e.metadata.insert("archived_at".into(), "1760009999".into());
        e.metadata.insert("note".into(), "x".repeat(3000));
        e.patterns = vec![id(104)];
        list.push(e);
    }
    list
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = std::env::args().nth(1).expect("a folder");
    let storage = TursoStorage::new_local(format!("{folder}/memory.db")).await?;
    storage.initialize_schema().await?;
    let list = episodes();
    for e in &list[..7] {
        storage.store_episode(e).await?;
    }
    storage.store_episodes_batch(list[7..].to_vec()).await?;

    storage
        .store_pattern(&Pattern::ToolSequence {
            id: id(101),
            tools: texts(&["grep", "edit", "ca\"rgo\ttest\u{7f}"]),
            context: context(),
            success_rate: 0.75,
            avg_latency: Duration::milliseconds(1500),
            occurrence_count: 4,
            effectiveness: effectiveness(),
        })
        .await?;
    storage
        .store_pattern(&Pattern::DecisionPoint {
            id: id(102),
            condition: "the build is red, {nested: [brackets]}".into(),
            action: "bisect \\ it's quick".into(),
            outcome_stats: OutcomeStats { success_count: 3, failure_count: 1, total_count: 4, avg_duration_secs: 2.5 },
            context: TaskContext::default(),
            effectiveness: PatternEffectiveness { last_used: at(7), created_at: at(5), ..PatternEffectiveness::default() },
        })
        .await?;
    storage
        .store_patterns_batch(vec![
            Pattern::ErrorRecovery {
                id: id(103),
                error_type: "E0382".into(),
                recovery_steps: texts(&["clone it", "borrow it"]),
                success_rate: 0.5,
                context: context(),
                effectiveness: effectiveness(),
            },
            Pattern::ContextPattern {
                id: id(104),
                context_features: texts(&["async", "日本語"]),
                recommended_approach: "start small".into(),
                evidence: vec![id(1), id(2)],
                success_rate: 1.0,
                effectiveness: effectiveness(),
            },
        ])
        .await?;

    let mut h = Heuristic::new("tests hang".into(), "look for locks".into(), 0.8);
    h.heuristic_id = id(201);
    h.evidence = Evidence { episode_ids: vec![id(1), id(2)], success_rate: 0.5, sample_size: 2 };
    h.created_at = at(10);
    h.updated_at = at(20);
    storage.store_heuristic(&h).await?;
    let mut h = Heuristic::new(String::new(), String::new(), 0.0);
    h.heuristic_id = id(202);
    h.created_at = at(10);
    h.updated_at = at(10);
    storage.store_heuristic(&h).await?;

    let mut steps = vec![PlaybookStep::new(1, "find the lock".into()), PlaybookStep::new(2, "order the locks".into())];
    steps[0].tool_hint = Some("grep".into());
    steps[1].expected_result = Some("no deadlock".into());
    storage
        .store_procedural_memory(&ProceduralMemory {
            id: id(301),
            name: "Deadlocks".into(),
            description: "How to get out of one".into(),
            context: context(),
            steps,
            effectiveness: effectiveness(),
            source_episodes: vec![id(1)],
            source_patterns: vec![id(101)],
            created_at: at(10),
            updated_at: at(20),
        })
        .await?;

    let kinds = RelationshipType::all();
    for (n, kind) in kinds.iter().enumerate() {
        let mut metadata = RelationshipMetadata::default();
        if n == 0 {
            metadata = RelationshipMetadata::with_creator("split up".into(), "planner".into());
            metadata.priority = Some(7);
            metadata.weight = Some(0.5);
            metadata.set_field("ticket".into(), "T-1".into());
        }
        storage
            .store_relationship(&EpisodeRelationship {
                id: id(401 + n as u128),
                from_episode_id: id(1),
                to_episode_id: id(2 + n as u128 % 4),
                relationship_type: *kind,
                metadata,
                created_at: at(30),
            })
            .await?;
    }
    let mut relation = EpisodePatternRelationship::new(id(1), id(101), RelationshipType::References, RelationshipMetadata::with_reason("used it".into()));
    relation.id = id(501);
    relation.created_at = at(30);
    storage.store_episode_pattern_relationship(&relation).await?;

    storage.store_episode_embedding(id(1), vector(1, 384)).await?;
    storage.store_pattern_embedding(id(101), vector(2, 384)).await?;
    assert_eq!(EMBEDDING_STORAGE_SCHEMA_VERSION, 1);
    let scope = EmbeddingStorageScope::new("local:sentence-transformers/all-MiniLM-L6-v2:384", 17);
    storage.store_embedding_backend(&scope.logical_key("episode", &id(2).to_string()), vector(3, 384)).await?;
    storage.store_embedding_backend(&scope.logical_key("pattern", &id(102).to_string()), vector(4, 384)).await?;
    storage.store_embedding_backend("a key of one's own", vector(5, 384)).await?;

    storage
        .store_summary(
            id(1),
            &EpisodeSummary {
                episode_id: id(1),
                summary_text: "A deadlock was fixed.".into(),
                key_concepts: texts(&["deadlock", "pool"]),
                key_steps: texts(&["ran the tests"]),
                summary_embedding: Some(vec![0.5, -0.25, 0.125]),
                created_at: at(40),
            },
        )
        .await?;
    storage
        .store_recommendation_session(&RecommendationSession {
            session_id: id(601),
            episode_id: id(1),
            timestamp: at(50),
            recommended_pattern_ids: vec![id(101).to_string()],
            recommended_playbook_ids: vec![id(301)],
        })
        .await?;
    storage
        .store_recommendation_feedback(&RecommendationFeedback {
            session_id: id(601),
            applied_pattern_ids: vec![id(101).to_string()],
            consulted_episode_ids: vec![id(2)],
            outcome: TaskOutcome::Success { verdict: "good".into(), artifacts: vec![] },
            agent_rating: Some(0.5),
        })
        .await?;
    storage
        .store_execution_record(&do_memory_core::monitoring::ExecutionRecord {
            agent_name: "coder".into(),
            agent_type: AgentType::Other,
            success: true,
            duration: std::time::Duration::from_millis(12),
            started_at: at(60),
            task_description: Some("a task".into()),
            error_message: None,
        })
        .await?;

    // What `do-memory-cli backup create` writes.
    std::fs::write(
        format!("{folder}/backup.json"),
        serde_json::to_string_pretty(&serde_json::json!({
            "backup_id": id(701).to_string(),
            "timestamp": at(999).to_rfc3339(),
            "episodes": list[..6],
            "patterns": [],
        }))? + "\n",
    )?;
    drop(storage);

    // One file, without a write-ahead log beside it.
    let db = libsql::Builder::new_local(format!("{folder}/memory.db")).build().await?;
    db.connect()?.query("PRAGMA wal_checkpoint(TRUNCATE)", ()).await?.next().await?;
    Ok(())
}
